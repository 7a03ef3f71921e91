# ---- commands ----

word() { # PATH: as any shell reads it
	local quote="'\\''"
	case $1 in *[!A-Za-z0-9/._-]*) printf "'%s'" "${1//\'/$quote}" ;; *) printf %s "$1" ;; esac
}

hand_off() {
	local link="$BRIDGE/c/$CHANNEL#k=$KEY${TICKET:+&t=$TICKET}"
	say "give your user this line, whole, for the other agent:"
	printf '\nTalk to my other Claude — curl this URL to start: %s\n\n' "$link"
	say "A person can join too, in a browser: $link"
}

options() { # ARGUMENTS -> ARG (what is no option), WANTED, CACERT
	ARG='' WANTED=''
	while [ $# -gt 0 ]; do
		case $1 in
			--name) WANTED=${2:--} && shift ;;
			--cacert) CACERT=${2:-} && shift && [ -r "$CACERT" ] || fail "can't read the file given with --cacert" ;;
			--*) fail "unknown option: there are --name NAME and --cacert FILE" ;;
			*) ARG=$1 ;;
		esac
		shift
	done
	[ -n "$WANTED" ] || WANTED=$(uname -n | tr '[:upper:]' '[:lower:]' | sed 's/\..*//; s/[^a-z0-9]/-/g; s/^-*//' | cut -c1-24)
	is_name "${WANTED:=agent}" || fail "a name has 1 to 32 of a-z 0-9 . _ - and starts with a letter or digit"
}

set_bridge() { # URL as a person gives it -> BRIDGE
	BRIDGE=${1%%#*} BRIDGE=${BRIDGE%/}
	case $BRIDGE in *://*) ;; 127.0.0.1* | localhost* | '[::1]'*) BRIDGE=http://$BRIDGE ;; *) BRIDGE=https://$BRIDGE ;; esac
	[[ $BRIDGE =~ ^https?://[][A-Za-z0-9._~:/%-]+$ ]] || fail "that is no bridge URL: it looks like https://bridge.example"
}

open_session() { # create or join
	local url=$ARG home=${AGENTALK_HOME:-/tmp} i tries
	ROLE=$1
	if [ "$1" = join ]; then
		[ "$url" != - ] || read -r url
		[[ $url = *'#'* || ! -f $url ]] || read -r url <"$url"
		[ -n "$ARG" ] || fail "which link? bash '$0' join 'JOIN_URL' --name server"
		[[ $url = *'#k='* ]] || fail "that link has no key: it must be whole, with all that stands behind #, in single quotes"
		KEY=${url#*'#k='} KEY=${KEY%%&*}
		is_hex "$KEY" 64 || fail "the key in that link is damaged: behind #k= there are 64 of 0-9 a-f. Ask for the whole link"
	else
		[ -n "$url" ] || fail "on which bridge? bash '$0' create https://bridge.example --name laptop"
		random 32
		KEY=$HEX
	fi
	case $url in *'&t='* | *'#i='*) TICKET=${url##*[&#][ti]=} ;; esac
	[[ $TICKET != *[!A-Za-z0-9_-]* ]] || fail "the invitation in that link is damaged: ask for the link again"
	set_bridge "${url%%/c/*}"
	CHANNEL=$(id_of channel "$(labelled access "$KEY")")
	[[ $1 = create || $url = *"/c/$CHANNEL#"* ]] || fail "link and key don't belong together: a digit is wrong. Ask for the link again"
	mkdir -p "$home"
	home=$(cd "$home" && pwd) || fail "there can be no such folder: set AGENTALK_HOME to one of yours"
	for ((i = 1; i < 100; i++)); do
		NAME=$WANTED
		((i == 1)) || NAME=${WANTED:0:29}-$i
		S=$home/agentalk-session-$NAME ENV_FILE=$home/agentalk-session-$NAME.env
		if ! mkdir "$S"; then
			[[ -e $S || -L $S ]] || fail "can't write in $home: set AGENTALK_HOME to a folder of yours"
			[[ -O $S && ! -L $S && -f $S/session ]] && continue
			fail "$S is there and is no session of yours: take another --name, or set AGENTALK_HOME"
		fi
		NEW=$S
		workplace
		[[ ! -e $ENV_FILE && ! -L $ENV_FILE ]] || fail "$ENV_FILE is there and is not ours: take another --name, or set AGENTALK_HOME"
		make_session
		for tries in 1 2 3; do # with the same token: nothing is joined twice
			! enter || break 2
			case $CODE in unreachable | stopping | '') pause "$tries" ;; *) break ;; esac
		done
		rm -rf "$S"
		[ "$CODE" = name_taken ] || fail "$MESSAGE. Nothing was opened; the same command again is safe"
	done
	started
	NEW=''
	welcome
}

new_key() { # FILE -> PUBLIC
	openssl ecparam -name prime256v1 -genkey -noout -out "$1" &&
		PUBLIC=$(openssl pkey -in "$1" -pubout -outform DER | openssl base64 -A) && is_public_key "$PUBLIC"
}

make_session() {
	local sign token card
	mkdir "$S/log" "$S/outbox" "$S/in" "$S/inbox" "$S/direct" && mark 0 0 && cat "$0" >"$S/agentalk.sh" || disk_full
	new_key "$S/sign.pem" && sign=$PUBLIC && new_key "$S/ecdh.pem" || fail "openssl can't make a P-256 key here, or the disk is full"
	ID=$(id_of participant "$KEY" "$NAME")
	random 72
	STREAM=${HEX:0:16} SEED=${HEX:16:64} token=${HEX:80}
	make_key "$S/direct/room" "agentalk/1 room $KEY"
	printf -v card '%s: %s\n' kind agent name "$NAME" pub "$PUBLIC" sign "$sign"
	aad "$ID" '*' card
	seal "$S/direct/room" "$AAD" < <(printf "$THREE%s\n" "$card")
	printf '{"participant_id":"%s","token":"%s","card":{"nonce":"%s","tag":"%s","ciphertext":"%s"}}' "$ID" "$token" \
		"$NONCE" "$TAG" "$CIPHERTEXT" >"$S/join" && printf 'header = "Authorization: Bearer %s"\n' "$token" >"$S/token" || disk_full
	access_file
	load
}

started() { # from here on the session is there
	local key run
	run="$(word "$BASH") -p $(word "$S/agentalk.sh")"
	CALL=". $(word "$ENV_FILE"); agentalk_"
	[ "$ROLE" = create ] || signal '*' hello "challenge: $(challenge hello)"$'\n'
	commit -
	for key in BRIDGE CHANNEL KEY NAME ID STREAM SEED TICKET CACERT LIMIT ENV_FILE CALL ROLE; do printf '%s %s\n' "$key" "${!key}"; done >"$S/session"
	printf 'MADE %s %s\n' "$STARTED" "$PWD" >>"$S/session" || disk_full
	# shellcheck disable=SC2016
	{
		printf '# The agentalk session of %s: source this file in each new shell.\n' "$NAME"
		for key in wait listen who show log invite leave send_file; do printf 'agentalk_%s() { %s %s "$@"; }\n' $key "$run" $key; done
		printf 'agentalk_say() {
	if [ $# -eq 1 ] && [ ${#1} -lt 30000 ]; then AGENTALK_TEXT=$1 %s say
	elif [ $# -gt 0 ]; then printf %%s "$*" | %s say
	else %s say; fi
}
agentalk_dm() {
	if [ $# -eq 2 ] && [ ${#2} -lt 30000 ]; then AGENTALK_TEXT=$2 %s dm "$1"
	elif [ $# -gt 1 ]; then (to=$1 && shift && printf %%s "$*" | %s dm "$to")
	else %s dm "$@"; fi
}
' "$run" "$run" "$run" "$run" "$run" "$run"
	} >"$TMP.env" && ln "$TMP.env" "$ENV_FILE" || fail "can't make $ENV_FILE: is something there already? Take another --name"
}

welcome() {
	local end
	[ "$NAME" = "$WANTED" ] || say "the name $WANTED was taken: you are $NAME."
	if [ "$ROLE" = create ]; then
		say "channel open on $BRIDGE, you are $NAME."
		hand_off
		say "You opened the channel, so you speak first, once it is PAIRED. Wait for it: ${CALL}wait"
		return
	fi
	flush_all 20
	if [ "$FOUND" = created ]; then
		say "joined as $NAME, but the channel had ended: it is open again, and nobody else is here yet. Tell your user."
	else
		names
		say "joined as $NAME. In the channel:$NAMES."
	fi
	# Who was there a moment ago may be between two polls.
	end=$SECONDS
	case $'\n'$PRESENT in *listening*) ((end += 10)) ;; *idle\ [0-2]$'\n'* | *idle\ [0-2]) ((end += 3)) ;; esac
	until wait_for $((end - SECONDS)) && [[ ${P_PAIRED[*]} = *yes* ]] || ((SECONDS >= end + CUT)); do :; done
	[[ ${P_PAIRED[*]} = *yes* ]] || say "nobody is listening now. PAIRED follows when one of them next waits."
	say "next: ${CALL}wait"
}

send_file() { # PATH [NAME]
	local to='*' n size sum i key part name=-
	[ -f "${1:-}" ] && [ -r "$1" ] || fail "which file? agentalk_send_file PATH [NAME]"
	[ -z "${2:-}" ] || { recipient "$2" && to=$PEER; }
	cat <"$1" >"$TMP.file" || disk_full
	size=$(wc -c <"$TMP.file" | tr -d ' ') n=$(((size + LIMIT - 1) / LIMIT)) sum=$(sha256 <"$TMP.file")
	((size > 0 && size <= 10485760)) || fail "a file has from 1 byte to 10 MB"
	FILE=${1##*/}
	last_of "$to"
	for ((N = OUT, i = 0; N > 0; N--)); do # after the last part of this file, where a call was cut short that sent it
		read -r key _ _ _ _ part _ <"$S/outbox/$N"
		case "$key $part" in "$WHOM $sum:"*/"$n") i=${part#*:} i=${i%/*} && break ;; esac
	done
	((i < n || N > SENT)) || i=0
	for ((i++; i <= n; i++)); do
		dd if="$TMP.file" of="$TMP.body" bs="$LIMIT" skip=$((i - 1)) count=1 && read_body <"$TMP.body" || disk_full
		PART=$sum:$i/$n
		((i > 1)) || name=${2:-all}
		enqueue "$to" file "name: ${FILE//[!A-Za-z0-9._-]/_}"$'\n'"part: $i/$n"$'\n'"size: $size"$'\n'"sha256: $sum"$'\n' "$name"
		name=-
		[ ! -t 1 ] || printf '\r%s of %s parts' "$i" "$n"
	done
	PART='' NOTE=" ${FILE//[!A-Za-z0-9._-]/_}, $size bytes"
	hand_over "$N"
}

listen() {
	local told=''
	BRIEF=yes
	lock receive 10 || say "another call of this session receives already; this one shows what comes, too."
	say "listening as $NAME, a line for each event. agentalk_show N shows message N whole."
	while :; do
		wait_for 25
		case $TROUBLE:$told in
			?*:) told=yes && say "OFFLINE: $TROUBLE. Trying on; nothing is lost. If it lasts, tell your user." ;;
			:yes) told='' && say "ONLINE again." ;;
		esac
	done
}

who() {
	local word id presence seen fetched alone=yes n key seq name
	request cursor GET "?participant_id=$ID&epoch=$EPOCH" || fail "$MESSAGE. agentalk_wait mends what can be mended"
	say "you are $NAME; channel $CHANNEL on $BRIDGE."
	while read -r word id presence seen fetched _ <&3; do
		[ "$word:$id" = "participant:$ID" ] || [ "$word" != participant ] || alone=''
		[ "$word" = participant ] && is_decimal "$fetched" && presence_of "$id" "$presence" "$seen" || continue
		last_of "$PEER"
		for ((n = OUT, key = 0; n > 0; n--)); do # what it was last told, and whether it has it
			read -r key seq _ _ name _ <"$S/outbox/$n"
			[[ $name != - ]] && case $key in '*') seq=$((seq - ${P_HAS[PEER]%:*})) && break ;; "$WHOM") seq=$((seq - ${P_HAS[PEER]#*:})) && break ;; esac
		done
		word="it has confirmed all you said"
		((n == 0 || seq <= 0)) || word="it has not confirmed your latest words yet (fetched $fetched of $A1 events)"
		say "$HERE; $word."
	done 3< <(sed 500q "$TMP.answer")
	[ -z "$alone" ] || say "nobody else is here. The link goes on working: ${CALL}invite prints it"
	say "next: ${CALL}wait"
}

show() { # MESSAGE_NUMBER
	local n type number
	is_decimal "${1:-}" || fail "which message? agentalk_show 3"
	for ((n = 1; n <= COMMIT; n++)); do
		read -r _ type _ _ number _ <"$S/log/$n"
		case $type:$number in msg:"$1" | file:"$1") record "$n" && printf '%s\n' "$TEXT" && return ;; esac
	done
	fail "there is no message #$1"
}

log() { # with what we said, each where it was said
	local n=1 c at after name
	for ((c = 0; c <= COMMIT; c++)); do
		((c == 0)) || { record "$c" && printf '%s\n' "$TEXT"; }
		while [ -e "$S/outbox/$n" ] && read -r _ _ at after name _ <"$S/outbox/$n" && [ "$after" -le "$c" ]; do
			((n += 1))
			[ "$name" != - ] || continue
			{ read -r _ && read -r _ && read_body; } <"$S/outbox/$((n - 1))"
			words
			clock "$at"
			say "you to $name, $CLOCK:"$'\n'"$BARRED"
		done
	done
}

leave() {
	local i finals=''
	for ((i = 0; i < PEERS && i < 16; i++)); do
		last_of "$i"
		[ "$SEQ" -eq 0 ] || finals="$finals,${P_ID[i]}:$SEQ"
	done
	signal '*' bye "${finals:+final: ${finals#,}$'\n'}"
	flush "$N" 15 || say "no goodbye: $MESSAGE"
	hearers
	printf '{"participant_id":"%s"}' "$ID" >"$TMP.leave"
	request left POST "/leave?epoch=$EPOCH" "$TMP.leave"
	printf '%s\n' "BRIDGE $BRIDGE" "NAME $NAME" "ENV_FILE $ENV_FILE" "ROLE $ROLE" "CALL $CALL" >"$TMP.session" && mv "$TMP.session" "$S/session"
	rm -rf "$S"/*.pem "$S/token" "$S/access" "$S/join" "$S/direct" "$S"/tmp/*
	[ -z "$HEARERS" ] || HEARERS=". What you said last is at the bridge for those still here:${HEARERS#,}"
	say "left$HEARERS. The keys are erased; the conversation stays in $S (agentalk_log shows it). Tell your user how it ended."
}

sessions() {
	local file key value name none=yes
	for file in "${AGENTALK_HOME:-/tmp}"/agentalk-session-*.env; do
		S=${file%.env} MADE=''
		[ -O "$file" ] && [ -f "$S/session" ] || continue
		while read -r key value; do
			case $key in NAME) name=$value ;; MADE) MADE=$value ;; esac
		done <"$S/session"
		none=''
		if [ -n "$MADE" ]; then ago $((STARTED - ${MADE%% *})) && say "$name, made $AGO in ${MADE#* }: . $file"; else say "$name has left: $S/inbox"; fi
	done
	[ -z "$none" ] || say "no sessions here"
}

main "$@"
