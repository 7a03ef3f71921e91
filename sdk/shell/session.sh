# ---- sessions: make one, find one, begin again ----

is_own_folder() { [[ -d $1 && -O $1 && ! -L $1 ]]; } # FOLDER

SESSION_FIELDS='BRIDGE KEY CHANNEL ACCESS NAME ID TOKEN TICKET CACERT LIMIT BLOB_LIMIT ROLE MADE MADE_IN CALL'

read_session() { # SESSION -> who we are, SESSION_FIELDS. Status 1: it is no session of ours
	local line field call=$CALL
	is_own_folder "$SESSION" && [[ -O $SESSION/session && ! -L $SESSION/session ]] && read_file "$SESSION/session" || return
	split_lines "${BYTES[0]}"
	for field in $SESSION_FIELDS; do printf -v "$field" %s ''; done
	for line in "${LINES[@]}"; do
		field=${line%% *}
		[[ " $SESSION_FIELDS " != *" $field "* ]] || printf -v "$field" %s "${line#* }"
	done
	[[ $CALL && $CALL != *[![:print:]]* ]] || CALL=$call
	adapt_call
	is_bridge "$BRIDGE" && is_name "$NAME" && is_decimal "$MADE" && [[ $CALL != *[[:cntrl:]]* ]] || return
	[ -n "$KEY" ] || return 0 # it has left
	is_hex "$KEY" 64 && is_hex "$ACCESS" 64 && is_hex "$TOKEN" 64 && is_hex "$CHANNEL" 32 && is_hex "$ID" 32 &&
		is_decimal "$LIMIT" && is_decimal "$BLOB_LIMIT" && is_ticket "$TICKET"
}

write_session() { # FIELD…: the others are forgotten
	local field text=''
	for field in "$@"; do text+="$field ${!field}"$'\n'; done
	write_file "$TMP.session" "$text"
	rename "$TMP.session" "$SESSION/session" || die_disk
}

is_ticket() { [[ $1 != *[!A-Za-z0-9_-]* ]]; } # a ticket, a create secret, or nothing

is_bridge() { [[ $1 =~ ^https?://[]A-Za-z0-9._~:/%[-]+$ ]]; } # URL

open_session() { # COMMAND: of a session that is there
	local call=$CALL
	read_session || die "this is no session of yours: $SESSION" "which there are: $call sessions"
	[ -n "$KEY" ] || case $1 in log | show) ;; *) die_left ;; esac
	init_temp
	read_clock
	read_state
	[ -n "$KEY" ] || return 0
	[ -e "$SESSION/keys" ] || { erase_keys && die_left; } # where a call of leave was killed
	stat_files %Z %c "$SESSION/keys/identity"
	OWN_IDENTITY=$FACTS
	remove_stale
}

is_copy() { # a copy or an older snapshot must not seal under used numbers
	[[ $OWN_IDENTITY = - || $OWN_IDENTITY = "$IDENTITY_WHEN_MADE" ]] || return 0
	[ -n "$IS_COPY" ] && ((NOW - STARTED_OVER >= 3600 || NOW < STARTED_OVER)) # that is only what others say: once an hour
}

check_copy() { # where this is a copy, it begins again: new keys, the same name
	local i confirmed unconfirmed=''
	while is_copy; do
		confirmed=0 unconfirmed=0
		for i in $ROWS; do raise confirmed "${P_ACK_B[i]}"; done
		remove_later "$SESSION/keys/sign-$SID" "$SESSION/keys/ecdh-$SID" "$SESSION/keys/card-$SID"
		make_keys
		IDENTITY_WHEN_MADE=$OWN_IDENTITY STARTED_OVER=$NOW
		for i in $ROWS; do
			((unconfirmed += P_SEQ[i] - P_ACK_D[i], 1))
			forget_content "${P_SID[i]}.D."
			P_PAIRED[i]=0 P_SEQ[i]=0 P_ACK_B[i]=0 P_ACK_D[i]=0 P_HAS_B[i]=0 P_HAS_D[i]=0 P_FROM[i]=1 P_UNACKED_SINCE[i]=0
			P_D[i]=0 P_D_TOP[i]=0 P_D_GAPS[i]=- P_D_LOST[i]=0 P_D_SINCE[i]=0 P_SHOWN_D[i]=0 P_SYNC_AT[i]=0 P_ACK_AT[i]=0 P_REPEATED[i]=-
			! is_present "$i" || P_STATE[i]=lost
		done
		add_record copied - $((BROADCASTS - confirmed + unconfirmed))
		BROADCASTS=0 SENT=$OUT OLDEST=$OUT OLDEST_SEQ=1 OUT_BYTES=0 EPOCH=$NULLS
		! commit_state || break
	done
	IS_COPY=''
	[ -n "$unconfirmed" ] || return 0
	COPIED=$RECORDS
	CODE=other_epoch
	rejoin || :
}

# ---- create and join ----

set_places() { PLACES=(${AGENTALK_HOME:+"$AGENTALK_HOME"} /tmp ${TMPDIR:+"$TMPDIR"} "$PWD/.agentalk"); } # where sessions may be

find_home() { # -> HOME_FOLDER: where sessions are made: the first that can be written
	local folder
	set_places
	for folder in "${PLACES[@]}"; do
		# A control character in a path would make separate lines, in our files and on the screen.
		if [[ $folder != *[[:cntrl:]]* ]] && { [ -d "$folder" ] || make_folder -p "$folder"; } && absolute_folder "$folder" &&
			[[ -w $FOLDER && $FOLDER != *[[:cntrl:]]* ]]; then
			[ "$folder" != "$PWD/.agentalk" ] || write_new_file "$folder/.gitignore" '*'$'\n' || :
			HOME_FOLDER=$FOLDER
			return
		fi
	done
	die "no folder for sessions can be written: \$AGENTALK_HOME, /tmp, \$TMPDIR, this one" \
		"set AGENTALK_HOME to a folder of yours with a plain path"
}

make_folders() { # -> SESSION, NAME, ENV_FILE: a new folder, whose name nobody else has
	local i
	for ((i = FIRST_NUMBER; i < 100; i++)); do
		NAME=$WANTED
		((i == 1)) || NAME=${WANTED:0:29}-$i
		SESSION=$HOME_FOLDER/agentalk-session-$NAME
		ENV_FILE=$SESSION.env
		[[ ! -e $ENV_FILE && ! -L $ENV_FILE ]] || continue
		remove_half_made
		make_folder "$SESSION" || continue
		NEW_SESSION=$SESSION FIRST_NUMBER=$((i + 1))
		init_temp
		write_file "$TMP.lock" "$PROCESS_ID $((TICKS + 90))"
		rename "$TMP.lock" "$SESSION/make.lock" || die_disk # whole at once: who reads it may take the folder
		make_folder "$SESSION"/{state,journal,outbox,received,inbox,digests,keys,sent,files} || die_disk
		write_file "$SESSION/.gitignore" $'*\n' # where AGENTALK_HOME is in a work tree
		return
	done
	die "no session can be made in $HOME_FOLDER" "is its disk full? Or set AGENTALK_HOME to a folder of yours"
}

remove_half_made() { # SESSION, whose maker was killed -> HALF_MADE: its cards, of which our own has its token
	local file tries
	HALF_MADE=''
	is_own_folder "$SESSION" && [ ! -e "$SESSION/session" ] || return
	for tries in 1 2 3 4 5; do [ -e "$SESSION/make.lock" ] || sleep_seconds 1; done # it comes soon after the folder
	list_files "$SESSION/"
	[[ -e $SESSION/make.lock || -z "${FILES[*]}" || "${FILES[*]}" = "$SESSION/tmp" ]] || return
	find_place
	is_locked make
	[ $? -eq 1 ] || return # it runs, or nobody can see
	list_files "$SESSION/keys/card-"
	for file in "${FILES[@]}"; do ! read_file "$file" || HALF_MADE+=${BYTES[0]}; done
	remove "$SESSION"
}

make_keys() { # -> SID: new key pairs, and their card
	local pub sign card
	make_key_pair "$TMP.sign" && sign=$PUBLIC && make_key_pair "$TMP.ecdh" && pub=$PUBLIC && is_public_key "$sign" && is_public_key "$pub" ||
		die "openssl can't make a P-256 key here" "check what 'openssl version' says, and whether the disk is full"
	short_id session "$KEY" "agent $NAME $pub $sign"
	SID=$HASH
	rename "$TMP.sign" "$SESSION/keys/sign-$SID" && rename "$TMP.ecdh" "$SESSION/keys/ecdh-$SID" || die_disk
	card="kind: agent"$'\n'"name: $NAME"$'\n'"pub: $pub"$'\n'"sign: $sign"$'\n'
	set_aad "$ID" '*' card
	BODY=('')
	seal room "$AAD" "$card"
	write_file "$SESSION/keys/card-$SID" "{\"participant_id\":\"$ID\",\"token\":\"$TOKEN\",\"card\":{\"nonce\":\"$NONCE\",\"tag\":\"$TAG\",\"ciphertext\":\"$CIPHERTEXT\"}}"
}

make_state() { # commit 0
	local field
	for field in $STATE_FIELDS; do printf -v "$field" %s 0; done
	PRINTER=- REPORTED=- OLDEST_SEQ=1 REACH=listening
	write_file "$SESSION/keys/identity" "of this folder, and of no copy"$'\n'
	stat_files %Z %c "$SESSION/keys/identity"
	IDENTITY_WHEN_MADE=$FACTS
	set_peers 0
	forget_changes
	COMMIT=-1 WRITER=0
	write_file "$SESSION/state/head.-1.0" ''
	commit_state
}

parse_link() { # what a person pasted, wrapped or quoted -> BRIDGE, CHANNEL, KEY, TICKET, SUM. Status 1: it has no whole link
	local IFS='' text
	text="$*" # several words: between them a file of PowerShell has NULs
	text=${text//[[:space:]$'\076']/}
	text=${text//%23/#}
	case $text in # the words before it are no part of it
		*https://*) text=https://${text##*https://} ;;
		*http://*) text=http://${text##*http://} ;;
	esac
	[[ $text =~ (https?://)?([]A-Za-z0-9._~:/%[-]+)/c/([0-9a-f]{32})\#([a-z]=[A-Za-z0-9_-]+(&[a-z]=[A-Za-z0-9_-]+)*) ]] || return
	CHANNEL=${BASH_REMATCH[3]}
	text="&${BASH_REMATCH[4]}"
	parse_bridge "${BASH_REMATCH[1]}${BASH_REMATCH[2]}"
	KEY='' TICKET='' SUM=''
	[[ ! $text =~ \&k=([0-9a-f]{64}) ]] || KEY=${BASH_REMATCH[1]}
	[[ ! $text =~ \&t=([0-9a-f]{32}) ]] || TICKET=${BASH_REMATCH[1]}
	[[ ! $text =~ \&c=([0-9a-f]{32}) ]] || SUM=${BASH_REMATCH[1]}
	[ -n "$KEY" ]
}

parse_bridge() { # URL as a person gives it -> BRIDGE
	BRIDGE=${1%%#*}
	BRIDGE=${BRIDGE%/}
	case $BRIDGE in
		[Hh][Tt][Tt][Pp]://*) BRIDGE=http://${BRIDGE#*://} ;;
		[Hh][Tt][Tt][Pp][Ss]://*) BRIDGE=https://${BRIDGE#*://} ;;
		127.0.0.1* | localhost* | '[::1]'*) BRIDGE=http://$BRIDGE ;;
		*) BRIDGE=https://$BRIDGE ;;
	esac
	is_bridge "$BRIDGE" || die "that is no bridge URL" "it looks like https://bridge.example"
}

parse_options() { # ARGUMENTS -> LINK (what is no option), WANTED, CACERT, INVITE_FILE
	LINK='' WANTED='' INVITE_FILE=''
	while [ $# -gt 0 ]; do
		case $1 in
			--name) WANTED=${2:--} ;;
			--cacert)
				CACERT=${2:-}
				! folder_of "$CACERT" || CACERT=$FOLDER/${CACERT##*/}
				[[ -f $CACERT && -r $CACERT && $CACERT != *[[:cntrl:]]* ]] || die "--cacert takes a file, and this one can't be read" "check its path and permissions"
				;;
			--invite-file)
				INVITE_FILE=${2:-}
				[[ $INVITE_FILE && ! -e $INVITE_FILE && ! -L $INVITE_FILE ]] || die "--invite-file takes the path of a new file" "take another path; nothing was opened"
				folder_of "$INVITE_FILE" && [ -w "$FOLDER" ] || die "there is no such folder for --invite-file, or it can't be written" "take another path; nothing was opened"
				;;
			--?*) die "there is no option ${1%%=*}" "there are --name NAME, --cacert FILE and --invite-file FILE" ;;
			*) LINK+=" $1" ;;
		esac
		[[ $1 != --?* ]] || shift
		shift
	done
	LINK=${LINK# }
	if [ -z "$WANTED" ]; then
		WANTED=${HOSTNAME:-agent}
		WANTED=${WANTED%%.*}
		to_lower "$WANTED"
		WANTED=${LOWER//[!a-z0-9]/-}
		while [[ $WANTED = -* ]]; do WANTED=${WANTED#-}; done
		WANTED=${WANTED:0:24}
	fi
	is_name "${WANTED:=agent}" ||
		die "that name can't be taken" "a name has 1 to 32 of a-z 0-9 . _ - and starts with a letter or digit; a few words, such as all and you, are reserved"
}

folder_of() { # PATH -> FOLDER, absolute
	case $1 in
		*/*) absolute_folder "${1%/*}/" ;;
		*) absolute_folder . ;;
	esac
}

to_lower() { # TEXT -> LOWER
	local i upper=ABCDEFGHIJKLMNOPQRSTUVWXYZ lower=abcdefghijklmnopqrstuvwxyz
	LOWER=$1
	for ((i = 0; i < 26; i++)); do LOWER=${LOWER//${upper:i:1}/${lower:i:1}}; done
}

shell_quote() { # TEXT -> QUOTED: as any shell reads it
	local quote="'\\''"
	QUOTED=$1
	case $1 in *[!A-Za-z0-9/._-]*) QUOTED="'${1//\'/$quote}'" ;; esac
}

cmd_create_or_join() { # create|join
	local tries joined=''
	ROLE=$1
	read_link
	find_home
	FIRST_NUMBER=1
	while [ -z "$joined" ]; do
		make_folders
		ID=''
		[ -n "$KEY" ] || { random_hex 32 && KEY=$HEX; } # which a link has
		is_hex "$KEY" 64 || die "no key could be made" "call again; nothing was opened"
		derive_ids
		[ "$HASH" = "$CHANNEL" ] || die "link and key don't belong together: a character is wrong or missing" "ask for the link again"
		make_key room "agentalk/1 room $KEY"
		test_cryptography
		random_hex 32
		TOKEN=$HEX
		[[ ! $HALF_MADE =~ \"$ID\",\"token\":\"([0-9a-f]{64}) ]] || TOKEN=${BASH_REMATCH[1]} # under which it may have joined
		make_state
		make_keys
		for tries in 1 2 3; do # with the same token: nothing is joined twice
			! enter_channel || { joined=yes && break; }
			case $CODE:$STATUS in unreachable:* | stopping:* | :5??) sleep_seconds "$tries" ;; *) break ;; esac
		done
		[ -z "$joined" ] || break
		[ "$CODE" = name_taken ] || die "$WHY" "${FIX:-nothing was opened; the same command again is safe}"
		remove "$SESSION"
	done
	publish_session
	NEW_SESSION=''
	welcome
}

read_link() { # LINK -> BRIDGE, and for a join CHANNEL, KEY
	if [ "$ROLE" = join ]; then
		case $LINK in
			'') die "which link?" "$CALL join 'LINK' --name server" ;;
			-) read_input 4096 || die "no link came on standard input" "give it as an argument, or in a file" ;;
			*) BYTES=("$LINK") ;;
		esac
		[[ $LINK = *://* || ! -f $LINK ]] || read_file "$LINK" || die "that file can't be read" "check its path"
		parse_link "${BYTES[@]}" || die "that is no whole link, nor a file with one" \
			"a link ends with /c/, 32 of 0-9 a-f, #k= and 64 of 0-9 a-f: give it whole, in single quotes"
		return
	fi
	[ -n "$LINK" ] || die "on which bridge?" "$CALL create https://bridge.example --name laptop"
	[[ ! $LINK =~ /c/[0-9a-f]{8} ]] || die "that is a link to join, not a bridge" "give it whole, in single quotes: $CALL join 'LINK' --name $WANTED"
	case $LINK in *'#i='*) TICKET=${LINK#*'#i='} HAS_SECRET=yes ;; esac
	is_ticket "$TICKET" || die "the create secret in that URL is damaged" "ask for the URL again"
	parse_bridge "$LINK"
}

derive_ids() { # KEY, NAME -> ACCESS, ID; HASH: the channel's id
	labelled_hash access "$KEY"
	ACCESS=$HASH
	short_id participant "$KEY" "$NAME"
	ID=$HASH
	short_id channel "$ACCESS"
	[ "$ROLE" = join ] || CHANNEL=$HASH
}

publish_session() { # from here on the session is there
	folder_of "$0"
	shell_quote "$SESSION/agentalk.sh"
	CALL="bash $QUOTED"
	read_file "$0" || die "this script can't be read" "fetch it again"
	BODY=("${BYTES[@]}")
	write_body "$SESSION/agentalk.sh" ''
	if [[ (${0##*/} = agentalk || ${0##*/} = agentalk.sh) && -x $FOLDER/agentalk && $FOLDER != *[[:cntrl:]]* ]]; then
		CALL=./agentalk
		hide_from_git
	fi
	commit_state || :
	MADE=$NOW MADE_IN=${FOLDER//[[:cntrl:]]/?}
	# shellcheck disable=SC2086
	write_session $SESSION_FIELDS
	adapt_call
	describe_functions
	write_new_file "$ENV_FILE" "$FUNCTIONS" && return
	[[ -e $ENV_FILE || -L $ENV_FILE ]] || die_disk
	die "can't make $ENV_FILE" "is something there already? Take another --name"
}

describe_functions() { # -> FUNCTIONS: the .env file, which runs nothing that others put in the folder's place
	local folder script command
	shell_quote "$SESSION"
	folder=$QUOTED script=$QUOTED/agentalk.sh
	shell_quote "$BASH"
	FUNCTIONS="# The agentalk session of $NAME: source this file in each new shell, or run $CALL.
agentalk_session() {
	if [ -O $folder ] && [ ! -L $folder ] && [ -O $script ]; then
		$QUOTED -p $script \"\$@\"
	elif [ -e $folder ]; then
		printf '%s\\n' 'agentalk: error: the folder of this session belongs to another user: call as the one who made it' >&2 && false
	else
		printf '%s\\n' 'agentalk: error: the folder of this session is gone' >&2 && false
	fi
}
"
	for command in say dm wait listen who show log invite leave send_file; do
		FUNCTIONS+="agentalk_$command() { agentalk_session $command \"\$@\"; }"$'\n'
	done
}

hide_from_git() { # FOLDER: where it is a work tree, git does not see ./agentalk
	local exclude=$FOLDER/.git/info/exclude
	[[ -w $exclude && ! -L $exclude ]] && read_file "$exclude" && [[ ${BYTES[0]} != *$'\n/agentalk\n'* ]] || return 0
	append_file "$exclude" $'/agentalk\n/agentalk.sh\n/.agentalk/\n' || :
}

make_invite() { # -> INVITE_LINK, with the start of this script's SHA-256
	hash_files "$SESSION/agentalk.sh"
	INVITE_LINK="$BRIDGE/c/$CHANNEL#k=$KEY${TICKET:+&t=$TICKET}&c=${HASH:0:32}"
}

cmd_invite() {
	make_invite
	tell "give your user this line, whole, for the other agent, or for several:"
	print $'\n'"Talk to my other agent — curl this URL to start: $INVITE_LINK"$'\n'
	tell "A person can join too, in a browser: $INVITE_LINK"
	warn_of_local_bridge
}

warn_of_local_bridge() {
	is_local_bridge || return 0
	port_of_bridge
	tell "$BRIDGE is this machine alone. If the other agent is elsewhere, tell your user to keep this open, too: ssh -R $PORT:127.0.0.1:$PORT THAT_MACHINE"
}

welcome() {
	[ "$NAME" = "$WANTED" ] || tell "the name $WANTED was taken: you are $NAME."
	AUTO_PRINT=yes
	if [ "$ROLE" = create ]; then
		tell "channel open on $BRIDGE, you are $NAME. The session is in $SESSION"
		if [ -n "$INVITE_FILE" ]; then
			make_invite
			write_new_file "$INVITE_FILE" "Talk to my other agent — curl this URL to start: $INVITE_LINK"$'\n' ||
				die "can't write the invite to that file" "the channel is open all the same. The invite: $CALL invite"
			tell "the line for the other agent is in $INVITE_FILE"
			warn_of_local_bridge
		else
			cmd_invite
		fi
		tell "You opened the channel, so you speak first, once it is PAIRED. Wait for it: $CALL wait"
		return
	fi
	hash_files "$0"
	[[ -z $SUM || $HASH = "$SUM"* ]] ||
		tell "warning: this script is not the one that your inviter runs (its SHA-256 starts with $SUM). If it came from this bridge, tell your user before you go on."
	[ "$FOUND" != created ] || tell "nobody was in the channel any more: it is open again, and empty."
	tell "joined as $NAME on $BRIDGE."
	OWN_REACH=listening
	send_controls
	local end=$((TICKS + PAIR_SECONDS))
	list_names
	HAS_MORE='' LEFT=$OUTPUT_BYTES
	while [[ $NAMES && -z $HAS_MORE ]] && ! is_anyone_paired && ((TICKS < end)); do
		wait_for_news $((end - TICKS < 8 ? end - TICKS : 8)) || :
	done
	[[ -z $HAS_MORE && -z $MORE_EVENTS ]] || { print_more && return; }
	is_anyone_paired || tell "nobody is listening now. PAIRED follows when one of them next waits."
	tell "next: $CALL wait"
}
