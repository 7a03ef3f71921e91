# ---- the other commands ----

cmd_who() {
	local line words rows alone=yes owed listed=' '
	request cursor GET "?participant_id=$ID&epoch=$EPOCH" || die "$WHY" "${FIX:-$CALL wait comes back to the channel where that is possible}"
	rows=("${LINES[@]}")
	format_fingerprint "$SID"
	print "agentalk: you are $NAME ($FINGERPRINT); channel $CHANNEL on $BRIDGE"
	read_participants
	for line in "${rows[@]}"; do
		# shellcheck disable=SC2206
		words=($line)
		[[ ${words[0]} = participant && ${words[1]:-} != "$ID" && $listed != *" ${words[1]:-} "* && ${#listed} -lt 10000 ]] || continue
		alone='' listed="$listed${words[1]:-} "
		describe_presence "${words[1]:-}" "${words[2]:-}" "${words[3]:-}" || continue
		owed=$((BROADCASTS - P_ACK_B[PEER] + P_SEQ[PEER] - P_ACK_D[PEER]))
		((P_FROM[PEER] <= P_ACK_B[PEER] + 1)) || owed=$((BROADCASTS - P_FROM[PEER] + 1 + P_SEQ[PEER] - P_ACK_D[PEER]))
		format_fingerprint "${P_SID[PEER]}"
		line="$PRESENCE; $FINGERPRINT"
		[ "${P_PAIRED[PEER]}" != 0 ] || line="$line; not PAIRED yet"
		if ((owed <= 0)); then line="$line; was shown all that you said"; else line="$line; has not confirmed your last $owed yet"; fi
		print "agentalk: $line"
	done
	[ -z "$alone" ] || print "agentalk: nobody else is here. The link goes on working: $CALL invite prints it"
	((TAMPERED == 0)) || print "agentalk: $TAMPERED times something was not genuine"
	((UNREADABLE == 0)) || print "agentalk: $UNREADABLE messages could not be read"
	print "agentalk: next: $CALL wait"
}

format_fingerprint() { FINGERPRINT="${1:0:4} ${1:4:4} ${1:8:4} ${1:12:4}"; } # SID

cmd_show() { # NUMBER: a message once more; a large file is fetched
	local r n number=${1:-} words
	is_decimal "$number" || die "which message?" "$CALL show 3"
	if [ -e "$SESSION/files/$number" ]; then
		write_file "$SESSION/files/$number-asked" ''
		while [ -e "$SESSION/files/$number" ]; do
			fetch_file "$number" || break
		done
		LEFT=$OUTPUT_BYTES
		refresh_state
		print_new
		[ "$NEWS" != yes ] || return 0
	fi
	for ((r = RECORDS; r >= 1; r--)); do
		read_record "$r" || continue
		# shellcheck disable=SC2206
		words=($RECORD)
		case ${words[0]}:$number in
			"msg:${words[8]:-}" | "coming:${words[8]:-}" | "file:${words[5]:-}")
				OWN_BROADCASTS=0 OWN_DIRECTS=' '
				for ((n = 1; n <= OUT; n++)); do
					read_outbox "$n" && [ "$OUT_RECORDS" -lt "$r" ] || break
					count_own
				done
				format_record "$r"
				print "$TEXT"
				[ ! -e "$SESSION/files/$number-asked" ] || print "agentalk: it has not come whole yet. Next: $CALL wait"
				return
				;;
		esac
	done
	die "there is no message #$number" "$CALL log shows all"
}

cmd_log() { # with what we said, each where it was said
	local n=1 r
	OWN_BROADCASTS=0 OWN_DIRECTS=' '
	for ((r = 0; r <= RECORDS; r++)); do
		! format_record "$r" || print "$TEXT"
		while read_outbox "$n" && [ "$OUT_RECORDS" -le "$r" ]; do
			((n += 1))
			count_own
			quote_body
			format_time "$OUT_TIME"
			print "agentalk: you to $OUT_NAME, $TIME:"$'\n'"$QUOTED"
		done
	done
}

count_own() { # OUT_…: it was said before what is shown next
	if [ "$OUT_TO" = '*' ]; then OWN_BROADCASTS=$OUT_SEQ; else OWN_DIRECTS="$OWN_DIRECTS$OUT_NAME:$OUT_SEQ "; fi
}

cmd_leave() {
	local i end read='' unread='' status=0
	send_queued "$OUT" 15 || { report_unsent && status=1; }
	for ((i = 0; i < PEERS; i++)); do ! is_present "$i" || has_confirmed "$i" || { owe "$i" sync && P_SYNC_AT[i]=0; }; done
	send_controls
	end=$((TICKS + 5))
	while ((TICKS < end)) && ! has_everybody_confirmed; do
		lock poll 15 || { sleep_seconds 0 && read_clock && refresh_state && continue; }
		poll $((end - TICKS < 2 ? end - TICKS : 2)) || break
	done
	for ((i = 0; i < PEERS; i++)); do
		is_present "$i" || continue
		if has_confirmed "$i"; then read="$read, ${P_LABEL[i]}"; else unread="$unread, ${P_LABEL[i]}"; fi
		send_control "$i" bye || :
	done
	rename "$SESSION/keys" "$TMP.keys" || die_left # from here on no other call can join again
	erase_keys
	request left POST "/leave?epoch=$EPOCH" "{\"participant_id\":\"$ID\"}" || :
	[ -z "$read" ] || read=". All that you said was shown to ${read#, }"
	[ -z "$unread" ] || read="$read. At the bridge for those who have not read your last words: ${unread#, }"
	print "agentalk: left$read. The keys are erased; the conversation stays in $SESSION ($CALL log shows it). Tell your user how it ended."
	return "$status"
}

erase_keys() {
	write_file "$TMP.session" "BRIDGE $BRIDGE"$'\n'"NAME $NAME"$'\n'"ROLE $ROLE"$'\n'"MADE $MADE"$'\n'"CALL $CALL"$'\n'"FOLDER $FOLDER_OF_CALLS"$'\n'
	rename "$TMP.session" "$SESSION/session" || die_disk
	list_files "$SESSION/tmp/" # what killed processes left may have a key, too
	remove "${FILES[@]}" "$SESSION/sent" "$SESSION/received" "$SESSION/files" "$SESSION/digests"
}

has_confirmed() { # PEER: was it shown all that we said?
	((P_ACK_D[$1] >= P_SEQ[$1] && (P_ACK_B[$1] >= BROADCASTS || P_FROM[$1] > BROADCASTS)))
}

has_everybody_confirmed() {
	local i
	for ((i = 0; i < PEERS; i++)); do ! is_present "$i" || has_confirmed "$i" || return; done
}

# ---- finding sessions: in each place where one may be ----

list_sessions() { # -> SESSIONS, folders of ours; FOREIGN: others have some, too
	local place file
	SESSIONS=() FOREIGN=''
	for place in ${AGENTALK_HOME:+"$AGENTALK_HOME"} /tmp ${TMPDIR:+"$TMPDIR"} "$PWD/.agentalk"; do
		list_files "$place/agentalk-session-"
		for file in "${FILES[@]}"; do
			[[ $file != *.env && " ${SESSIONS[*]} " != *" $file "* ]] || continue
			if is_own_folder "$file"; then SESSIONS[${#SESSIONS[@]}]=$file; else FOREIGN=yes; fi
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
			sanitize "$FOLDER_OF_CALLS"
			print "agentalk: $NAME, made $AGE with $CLEAN/agentalk: $CALL wait"
		else
			print "agentalk: $NAME has left: $SESSION/inbox"
		fi
	done
	[ -z "$none" ] || print "agentalk: no sessions here"
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
		read_session && [ "$FOLDER_OF_CALLS" = "${FOLDER//[[:cntrl:]]/?}" ] && [[ -z $1 || $NAME = "$1" ]] || continue
		if [ -z "$KEY" ]; then
			[ "$MADE" -le "$newest" ] || newest=$MADE left=$session
			continue
		fi
		[ -z "$found" ] || die "there are several sessions here" "say which: $CALL --as NAME …; $CALL sessions lists them"
		found=$session
	done
	found=${found:-$left} # of those that have left the newest: log shows what was said
	if [ -z "$found" ]; then
		hint="$CALL sessions lists those of this machine"
		[ -z "$FOREIGN" ] || hint="$hint. Others there belong to other users: call as the user who made it, without sudo"
		die "there is no session of yours that was made here${1:+ by that name}" "$hint"
	fi
	SESSION=$found
}

cmd_help() {
	print "agentalk: coding agents on different machines talk, end-to-end encrypted
	create BRIDGE_URL --name laptop   opens a channel and prints the line for the other agent
	join 'LINK' --name server         joins one (- or a file's path: the link is read from there)
	say 'words', dm NAME 'words'      to all, or to one; also --file PATH, - for standard input, --wait SECONDS
	send_file PATH [NAME], wait [SECONDS], listen [--wake], who, show N, log, invite, leave
	sessions                          lists this machine's sessions; --as NAME before a command takes one of them"
}
