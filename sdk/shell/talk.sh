# ---- say, dm, wait, listen ----

read_text() { # WORDS… or --file PATH or - or nothing -> BODY
	local source=${1--} hint="give the words: $CALL say 'words'; or a file: $CALL say --file PATH"
	[ -z "$ONLY_WORDS" ] || source=words
	if [ "$source" = --file ]; then
		[ $# -eq 2 ] || die "--file takes one path" "$CALL say --file PATH"
		check_path "$2"
		check_length "$SIZE"
		read_file "$2"
	elif [ "$source" = - ] && [ $# -le 1 ]; then
		read_input $((LIMIT + 1)) || die "nothing to say" "$hint"
	else
		[[ $source != --[a-z]* || $source = *[!a-z=-]* ]] ||
			die "there is no option ${source%%=*}" "to say words that start with --, put -- before them"
		BYTES=("$*")
		BYTES_LENGTH=${#BYTES[0]}
	fi
	BODY=("${BYTES[@]}")
	[ "$BYTES_LENGTH" -gt 0 ] || die "nothing to say" "$hint"
	check_length "$BYTES_LENGTH"
}

check_length() { # BYTES of a text
	[ "$1" -le "$LIMIT" ] || die "a message has at most $LIMIT bytes, and this one is longer" "send it as a file: $CALL send_file PATH"
}

take_options() { # ARGUMENTS -> ARGUMENTS without --wait SECONDS, WAIT_SECONDS; ONLY_WORDS: there was a --
	ARGUMENTS=() WAIT_SECONDS='' ONLY_WORDS=''
	while [ $# -gt 0 ]; do
		case $1 in
			--wait)
				is_decimal "${2:-}" || die "--wait takes seconds" "$CALL say --wait 100 'words'"
				WAIT_SECONDS=$2
				shift
				;;
			--)
				shift
				ONLY_WORDS=yes
				break
				;;
			*) ARGUMENTS+=("$1") ;;
		esac
		shift
	done
	ARGUMENTS+=("$@")
}

cmd_say() {
	take_options "$@"
	read_text "${ARGUMENTS[@]}"
	queue_message '*' text '' all
	send_and_report
}

cmd_dm() {
	take_options "$@"
	list_names
	[ ${#ARGUMENTS[@]} -gt 0 ] || die "to whom?" "$CALL dm NAME 'words'. In the channel:${NAMES:- nobody}"
	find_recipient "${ARGUMENTS[0]}"
	local to=$PEER label=${P_LABEL[PEER]}
	read_text "${ARGUMENTS[@]:1}"
	queue_message "$to" text '' "$label"
	NOTE=" to $label alone"
	send_and_report
}

cmd_send_file() { # PATH [NAME]
	local to='*' name=all size hash
	check_file "${1:-}"
	[ -z "${2:-}" ] || { find_recipient "$2" && to=$PEER name=$2; }
	encrypt_file "$1"
	size=$SIZE
	upload "$SENT_FOLDER" || die "the file was not sent: $WHY" "the same command again goes on where this one ended"
	finish_hash && is_hex "$HASH" 64 || die_disk
	hash=$HASH
	encode_name "$1"
	read_file "$SENT_FOLDER/body"
	BODY=("${BYTES[@]}")
	decode_name "$ENCODED"
	LOGGED="(the file $FILE_NAME)"
	queue_message "$to" file "name: $ENCODED"$'\n'"size: $size"$'\n'"sha256: $hash"$'\n' "$name"
	NOTE=" $FILE_NAME, $size bytes"
	[ "$to" = '*' ] || NOTE+=", to $name alone"
	send_and_report
}

describe_presence() { # ID listening|idle SECONDS -> PEER, PRESENCE. Status 1: nobody that we know
	is_decimal "$3" && find_peer ID "$1" || return
	format_age "$3"
	PRESENCE="last seen $AGE"
	(($3 > 2)) || PRESENCE='here a moment ago' # between two polls
	[ "$2" != listening ] || PRESENCE='listening now'
	[[ ${P_REACH[PEER]} != wakes:* || $3 -gt 60 || $((NOW - ${P_REACH[PEER]#*:} / 1000)) -ge 28800 ]] || PRESENCE="listening now: a message wakes it"
	PRESENCE="${P_LABEL[PEER]} (${P_KIND[PEER]}) $PRESENCE"
}

describe_hearers() { # HEARERS, lines of the bridge; NAMES -> RECIPIENTS
	local line words is_heard=''
	RECIPIENTS=''
	[ ${#HEARERS[@]} -gt 0 ] || return 0
	for line in "${HEARERS[@]}"; do
		words=($line)
		[ "${words[0]}" = recipient ] || continue
		describe_presence "${words[1]:-}" "${words[2]:-}" "${words[3]:-}" || { PRESENCE='one that has just joined' && words[3]=0; }
		[[ ${words[2]} != listening && ${words[3]} -ge 120 ]] || is_heard=yes
		[[ "$RECIPIENTS," = *", $PRESENCE,"* ]] || RECIPIENTS+=", $PRESENCE"
		[ ${#RECIPIENTS} -lt 4000 ] || break # a bridge may name many
	done
	if [[ -z $RECIPIENTS && $NAMES ]]; then
		RECIPIENTS=", but not back since the bridge lost the channel:$NAMES. It is said again to those who come back"
	elif [ -z "$RECIPIENTS" ]; then
		RECIPIENTS=", but nobody else is in the channel: who joins is told that something was said before. Tell your user"
	elif [ -z "$is_heard" ]; then
		RECIPIENTS+=". Nobody is listening now: wait, and tell your user if no answer comes"
	fi
}

send_and_report() { # N: what the sender needs to know. Status 1: it was not sent
	local status=0
	ABSENTEES='' HEARERS=()
	tell_copied
	list_names
	if send_queued "$N" 40; then
		describe_hearers
		[[ $ABSENTEES != *" $N "* ]] || RECIPIENTS=", but it is not there now and gets it when it is back. Tell your user if that matters"
		tell "sent$NOTE$RECIPIENTS. Next: $CALL wait, or $CALL leave when the task is done"
	else
		status=1
		report_unsent
	fi
	! has_news "$SHOWN" || tell "there is news that you have not read: $CALL wait shows it"
	((N % 60)) || tell "$N messages sent: give your user a status update"
	[ -z "$WAIT_SECONDS" ] || cmd_wait "$WAIT_SECONDS"
	return "$status"
}

tell_copied() { # that this session began again; wait does not repeat it
	[[ -n $COPIED && $SHOWN -lt $COPIED ]] || return
	! format_record "$COPIED" || print "$TEXT"
	while [ "$TOLD" != "$COPIED" ]; do
		TOLD=$COPIED
		! commit_state || break
	done
}

report_unsent() {
	if [ -n "$BLOCKED" ]; then
		tell "not sent: $WHY. It stays first in line, and each call tries again. If that lasts: $CALL leave, and join again by the link"
	else
		tell "not sent yet: $WHY. It is kept and goes out with your next call. $ADVICE. Next: $CALL wait"
	fi
}

# ---- waiting ----

wait_for_news() { # SECONDS. Status 0: there is news. JOINED waits five more for PAIRED, a file two for the words that explain it
	local end=$((TICKS + $1)) news='' polled='' is_enough=''
	while :; do
		refresh_state
		print_new
		[ -z "$HAS_MORE" ] || return 0
		case $NEWS in
			yes) is_enough=yes ;;
			joined) news=yes end=$((TICKS + 5)) ;;
			more) news=yes end=$((TICKS + 2)) ;;
		esac
		if [[ $is_enough && (-z $MORE_EVENTS || $TICKS -ge $end) ]]; then
			HAS_MORE=$MORE_EVENTS
			return 0
		fi
		((TICKS < end)) || [[ -z $polled || (-n $MORE_EVENTS && $TICKS -lt $((end + 10))) ]] || break
		is_watched || exit 1
		poll_or_yield $((end - TICKS))
		polled=yes
		[[ -z $IS_BRIEF || $FAILED_POLLS -lt 6 ]] || break # which listen tells
	done
	[ -n "$news" ]
}

poll_or_yield() { # SECONDS: wait for news; or pause while another process of this session polls
	local seconds=$WATCH_SECONDS
	[ -e "$SESSION/keys" ] || die_left
	if ! lock poll 15; then
		sleep_seconds 0
		read_clock
		return
	fi
	list_files "$SESSION/files/"
	[[ ${FILES[*]##*/} != *-* ]] || seconds=8 # pieces that lack are tried again
	[ -z "$HAS_MISSING" ] || seconds=2
	[ -z "$HAS_FILES" ] || seconds=0
	(($1 >= seconds)) || seconds=$(($1 > 0 ? $1 : 0))
	ask_fetched
	check_copy
	send_queued "$OUT" 5 || [ -z "$BLOCKED" ] || OFFLINE_REASON=$WHY
	if poll "$seconds"; then
		OFFLINE_REASON='' FAILED_POLLS=0
		fetch_files
		[ -z "$WANTS" ] || serve_wants
		send_queued "$OUT" 5 || :
		check_copy
		return
	fi
	[ "$CODE" != bad_request ] || CODE=no_participant # a cursor that was led astray
	! rejoin || return 0
	OFFLINE_REASON=$WHY
	((FAILED_POLLS += 1))
	sleep_seconds $((FAILED_POLLS < 5 ? FAILED_POLLS : 5))
	read_clock
}

cmd_wait() { # SECONDS
	local note='' seconds=${1:-100} alone="nobody else is left. If your task is done: $CALL leave"
	is_decimal "$seconds" || die "wait takes seconds" "$CALL wait 100"
	AUTO_PRINT=yes LEFT=$OUTPUT_BYTES
	if is_locked wake; then set_reach wakes; else set_reach listening; fi
	if wait_for_news "$seconds"; then
		list_names
		[[ -z $HAS_MORE && -z $MORE_EVENTS ]] || { print_more && return; }
		if [ -n "$NAMES" ]; then
			tell "next: answer with $CALL $ANSWER 'words', or $CALL wait; $CALL leave when the task is done"
		else
			tell "$alone"
		fi
	elif [ "$SHOWN" -lt "$RECORDS" ]; then
		tell "another call of this session is showing the news. Next: $CALL wait"
	elif [ -n "$OFFLINE_REASON" ]; then
		tell "no news: $OFFLINE_REASON. $ADVICE. Next: $CALL wait"
	elif list_names && [ -z "$NAMES" ]; then
		((PEERS > 0)) || alone="nobody else is in the channel yet. Does your user have the line for it ($CALL invite)? Next: $CALL wait"
		tell "$alone"
	else
		if ! is_anyone_paired; then
			note=' Not PAIRED yet: that takes a wait of the other side, too.'
		elif [[ $ROLE = create && $OUT -eq 0 ]]; then
			note=" You opened the channel and speak first: $CALL say 'words'."
		fi
		tell "no news from$NAMES in $seconds s.$note Next: $CALL wait"
	fi
	unlock poll
}

print_more() { tell "There is more: $CALL wait 0 shows it"; }

cmd_listen() { # [--wake|--hook]
	local told=''
	case ${1:-} in
		--wake) listen_to_wake "${2:-}" && return ;;
		--hook) tell_hook && return ;;
		?*) die "listen does not take that" "$CALL listen, or $CALL listen --wake" ;;
	esac
	set_reach listening
	IS_BRIEF=yes AUTO_PRINT=yes
	while is_watched; do
		LEFT=$OUTPUT_BYTES
		wait_for_news "$WATCH_SECONDS" || :
		case $OFFLINE_REASON:$told in
			?*:)
				told=yes
				tell "OFFLINE: $OFFLINE_REASON. Trying on; nothing is lost. $ADVICE."
				;;
			:yes)
				told=''
				tell "ONLINE again."
				;;
		esac
	done
}

set_reach() { # listening, wakes or reads: what a message does here now. A change is told to all
	OWN_REACH=$1
	while [ "$REACH" != "$1" ]; do
		REACH=$1
		owe_all
		! commit_state || break
	done
}

# ---- waking an agent whose turn is over: by SENTENCE alone, once until it has read the news ----

listen_to_wake() { # [PROGRAM]: the Codex to wake, where this process was started for that
	local seconds=100
	if [ -n "$1" ]; then
		WATCHED=${1#/proc/} WATCHED=${WATCHED%/exe}
		is_decimal "$WATCHED" || WATCHED=''
		wake_for_news "$1"
	elif is_locked wake; then
		tell "another call of this session wakes you already. You can end your turn."
	elif [ -n "${CLAUDECODE:-}" ]; then
		tell "as a background task this wakes you when news comes, for 8 hours. You can end your turn; then run $CALL wait 0."
		if wake_for_news claude; then
			[ ! -e "$SESSION/keys" ] || tell "8 hours are over. To go on: $CALL listen --wake"
		else
			print "$SENTENCE"
		fi
	elif [[ -n ${CODEX_THREAD_ID:-} && -w ${CODEX_HOME:-$HOME/.codex} ]]; then
		find_codex
		start_waker listen --wake "$CODEX"
		tell "news will wake you, for 8 hours. You can end your turn; then run $CALL wait 0."
	elif [ -n "${COPILOT_CLI:-}" ]; then
		tell "as your only async command this ends with the news, which wakes you. You can end your turn."
		cmd_wait 28800
	else
		[ -z "${CODEX_THREAD_ID:-}" ] || seconds=25
		[ -z "${GEMINI_CLI:-}" ] || seconds=240
		tell "this program can't be woken from here: waiting for $seconds s."
		cmd_wait "$seconds"
	fi
}

find_codex() { # -> CODEX: the program that we descend from, or its name
	local pid=$PPID words
	CODEX=codex
	while read_line "/proc/$pid/stat"; do
		words=(${LINE##*) })
		[[ $LINE != *' (codex) '* ]] || { CODEX=/proc/$pid/exe && return; }
		is_decimal "${words[1]:-}" || return
		pid=${words[1]}
	done
}

wake_for_news() { # claude, or the program of Codex: until session or 8 hours are over. Status 1: it can't wake, or nobody reads
	local end=$((TICKS + 28800)) unread=0 woken=0 woken_at=0 status=0
	lock wake 85 && set_reach wakes
	while ((TICKS < end)) && is_watched && [ -e "$SESSION/keys" ] && lock wake 85; do
		poll_or_yield $((unread > 0 ? 2 : WATCH_SECONDS))
		refresh_state
		if ((SHOWN < woken)); then
			[ "$1" != claude ] || ((TICKS - woken_at < MISSING_SECONDS)) || { status=1 && break; }
			continue
		fi
		has_news "$SHOWN" || { unread=0 && continue; }
		[ "$unread" -gt 0 ] || unread=$TICKS
		((TICKS - unread >= 3)) || continue # a waiting call may show it
		case $1 in
			claude) wake_claude ;;
			*) wake_codex "$1" ;;
		esac || { status=1 && break; }
		unread=0 woken=$RECORDS woken_at=$TICKS
	done
	[ -e "$SESSION/keys" ] || return 0
	unlock wake
	set_reach reads
	send_controls
	return "$status"
}

tell_hook() { # as a hook at the end of a turn: with unread news the turn goes on, once for each
	local told
	poll_or_yield 0
	refresh_state
	told=$SHOWN
	! read_count "$SESSION/told" || raise told "$COUNT"
	has_news "$told" || return 0
	write_file "$SESSION/told" "$RECORDS"
	print "{\"decision\":\"block\",\"reason\":\"$SENTENCE\"}"
}

has_news() { # RECORD: did something come after it that the agent should read?
	local r
	NEWS=''
	for ((r = $1 + 1; r <= RECORDS; r++)); do [ "$r" -eq "$TOLD" ] || ! read_record "$r" || note_news; done
	[[ $NEWS = yes || $NEWS = more ]]
}
