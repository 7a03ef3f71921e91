# ---- the other commands ----

cmd_who() {
	local line words rows listed=' '
	request_status || die "$WHY" "${FIX:-$CALL wait comes back to the channel where that is possible}"
	rows=("${LINES[@]}")
	format_fingerprint "$SID"
	tell "you are $NAME ($FINGERPRINT); channel $CHANNEL on $BRIDGE"
	read_participants
	for line in "${rows[@]}"; do
		words=($line)
		[[ ${words[0]} = participant && ${words[1]:-} != "$ID" && $listed != *" ${words[1]:-} "* && ${#listed} -lt 10000 ]] || continue
		listed+="${words[1]:-} "
		describe_presence "${words[1]:-}" "${words[2]:-}" "${words[3]:-}" || continue
		count_unconfirmed "$PEER"
		format_fingerprint "${P_SID[PEER]}"
		line="$PRESENCE; $FINGERPRINT"
		[ "${P_PAIRED[PEER]}" != 0 ] || line+="; not PAIRED yet"
		if ((UNCONFIRMED <= 0)); then line+="; was shown all that you said"; else line+="; has not confirmed your last $UNCONFIRMED yet"; fi
		tell "$line"
	done
	[ "$listed" != ' ' ] || tell "nobody else is here. The link goes on working: $CALL invite prints it"
	((TAMPERED == 0)) || tell "$TAMPERED times something was not genuine"
	((UNREADABLE == 0)) || tell "$UNREADABLE messages could not be read"
	tell "next: $CALL wait"
}

format_fingerprint() { FINGERPRINT="${1:0:4} ${1:4:4} ${1:8:4} ${1:12:4}"; } # SID

cmd_show() { # NUMBER: a message once more; a large file is fetched
	local r number=${1:-} words
	is_decimal "$number" || die "which message?" "$CALL show 3"
	if [ -e "$SESSION/files/$number" ]; then
		write_file "$SESSION/files/$number-asked" ''
		while [ -e "$SESSION/files/$number" ]; do
			fetch_file "$number" || break
		done
		LEFT=$OUTPUT_BYTES
		refresh_state
		print_new
		[[ -z $NEWS || -e $SESSION/files/$number ]] || return 0
	fi
	for ((r = RECORDS; r >= 1; r--)); do
		read_record "$r" || continue
		words=($RECORD)
		case ${words[0]}:$number in
			"msg:${words[8]:-}" | "coming:${words[8]:-}" | "file:${words[5]:-}")
				IS_LOG=yes
				format_record "$r"
				print "$TEXT"
				[ ! -e "$SESSION/files/$number-asked" ] || tell "it has not come whole yet. Next: $CALL wait"
				return
				;;
		esac
	done
	die "there is no message #$number" "$CALL log shows all"
}

cmd_log() { # with what we said, each where it was said
	local n=1 r
	IS_LOG=yes
	for ((r = 0; r <= RECORDS; r++)); do
		! format_record "$r" || print "$TEXT"
		while read_outbox "$n" && [ "$OUT_RECORDS" -le "$r" ]; do
			((n += 1))
			quote_body
			format_time "$OUT_TIME"
			tell "you to $OUT_NAME, $TIME:"$'\n'"$QUOTED"
		done
	done
}

cmd_leave() {
	local i end status=0
	send_queued "$OUT" 15 || { report_unsent && status=1; }
	for i in $ROWS; do
		count_unconfirmed "$i"
		if is_present "$i" && ((UNCONFIRMED > 0)); then
			owe "$i" sync
			P_SYNC_AT[i]=0
		fi
	done
	send_controls
	end=$((TICKS + 5))
	while list_readers && [ "$UNREAD_BY" ] && ((TICKS < end)); do
		lock poll 15 || { sleep_seconds 0 && read_clock && refresh_state && continue; }
		poll $((end - TICKS < 2 ? end - TICKS : 2)) || break
	done
	for i in $ROWS; do ! is_present "$i" || send_control "$i" bye || :; done
	rename "$SESSION/keys" "$TMP.keys" || die_left # from here on no other call can join again
	erase_keys
	request left POST "/leave?epoch=$EPOCH" "{\"participant_id\":\"$ID\"}" || :
	[ -z "$READ_BY" ] || READ_BY=". All that you said was shown to ${READ_BY#, }"
	[ -z "$UNREAD_BY" ] || READ_BY+=". At the bridge for those who have not read your last words: ${UNREAD_BY#, }"
	tell "left$READ_BY. The keys are erased; $CALL log shows what was said. Tell your user how it ended."
	tell "the conversation stays in $SESSION: that folder and $SESSION.env may be deleted"
	return "$status"
}

erase_keys() {
	write_session BRIDGE NAME ROLE MADE MADE_IN CALL
	list_files "$SESSION/tmp/" # what killed processes left may have a key, too
	remove "${FILES[@]}" "$SESSION/sent" "$SESSION/received" "$SESSION/files" "$SESSION/digests"
}

count_unconfirmed() { # PEER -> UNCONFIRMED: how many of our messages it has not been shown yet
	local from=$((P_FROM[$1] - 1))
	raise from "${P_ACK_B[$1]}"
	((UNCONFIRMED = BROADCASTS - from + P_SEQ[$1] - P_ACK_D[$1], 1))
}

list_readers() { # -> READ_BY, UNREAD_BY: the names of those who were shown all that we said, and of the others
	local i
	READ_BY='' UNREAD_BY=''
	for i in $ROWS; do
		is_present "$i" || continue
		count_unconfirmed "$i"
		if ((UNCONFIRMED <= 0)); then READ_BY+=", ${P_LABEL[i]}"; else UNREAD_BY+=", ${P_LABEL[i]}"; fi
	done
}

# ---- finding sessions: in each place where one may be ----

list_sessions() { # -> SESSIONS, folders of ours; FOREIGN: others have some, too
	local place file
	SESSIONS=() FOREIGN=''
	set_places
	for place in "${PLACES[@]}"; do
		list_files "$place/agentalk-session-"
		for file in "${FILES[@]}"; do
			[[ $file != *.env && " ${SESSIONS[*]} " != *" $file "* ]] || continue
			if is_own_folder "$file"; then SESSIONS+=("$file"); else FOREIGN=yes; fi
		done
	done
}

cmd_sessions() {
	local none=yes
	list_sessions
	for SESSION in "${SESSIONS[@]}"; do
		read_session || continue
		none=''
		if [ -n "$KEY" ]; then
			format_age $((NOW - MADE))
			sanitize "$MADE_IN"
			tell "$NAME, made $AGE with $CLEAN/agentalk: $CALL wait"
		else
			tell "$NAME has left: $SESSION/inbox"
		fi
	done
	[ -z "$none" ] || tell "no sessions here"
}

find_session() { # [NAME] -> SESSION: the one that was made with this executable
	local session found='' left='' newest=-1 hint
	if [[ $0 = */agentalk-session-*/agentalk.sh && -f ${0%/*}/session ]]; then
		SESSION=${0%/*}
		return
	fi
	folder_of "$0"
	list_sessions
	for session in "${SESSIONS[@]}"; do
		SESSION=$session
		read_session && [ "$MADE_IN" = "${FOLDER//[[:cntrl:]]/?}" ] && [[ -z $1 || $NAME = "$1" ]] || continue
		if [ -z "$KEY" ]; then
			[ "$MADE" -le "$newest" ] || newest=$MADE left=$session
			continue
		fi
		[ -z "$found" ] || die "there are several sessions here" "say which: $CALL --as NAME …; $CALL sessions lists them"
		found=$session
	done
	found=${found:-$left} # log shows what was said
	if [ -z "$found" ]; then
		hint="$CALL sessions lists those of this machine"
		[ -z "$FOREIGN" ] || hint+=". Others there belong to other users: call as the user who made it, without sudo"
		die "there is no session of yours that was made here${1:+ by that name}" "$hint"
	fi
	SESSION=$found
}

cmd_help() {
	tell "coding agents on different machines talk, end-to-end encrypted
	create BRIDGE_URL --name laptop   opens a channel and prints the line for the other agent
	join 'LINK' --name server         joins one (- or a file's path: the link is read from there)
	say 'words', dm NAME 'words'      to all, or to one; also --file PATH, - for standard input, --wait SECONDS
	send_file PATH [NAME], wait [SECONDS], listen [--wake], who, show N, log, invite, leave
	sessions                          lists this machine's sessions; --as NAME before a command takes one of them"
}
