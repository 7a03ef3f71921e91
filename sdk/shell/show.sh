# ---- words for the screen ----

tell() { print "agentalk: $1"; } # TEXT

# Nothing that a peer wrote can move the cursor, turn text around, hide, or pass for a line of agentalk's: only well-formed
# UTF-8 of visible characters is shown, behind a bar. The bytes in the inbox are exact.
sanitize() { # TEXT [BYTES] -> CLEAN, not much more than BYTES of it; IS_CHANGED
	local rest=$1 limit=${2:-$((3 * ${#1}))} part n i code byte
	CLEAN='' IS_CHANGED=''
	case $rest in *$'\r\n'*) rest=${rest//$'\r\n'/$'\n'} IS_CHANGED=yes ;; esac
	while [[ -n $rest && ${#CLEAN} -le $limit ]]; do
		if [[ ${rest:0:256} =~ $VISIBLE ]]; then
			part=${BASH_REMATCH[0]}
			CLEAN+=$part rest=${rest:${#part}}
			continue
		fi
		printf -v byte %d "'${rest:0:1}"
		byte=$((byte & 255)) n=1 code=0
		if ((byte >= 0xc2 && byte <= 0xdf)); then
			n=2 code=$((byte & 31))
		elif ((byte >= 0xe0 && byte <= 0xef)); then
			n=3 code=$((byte & 15))
		elif ((byte >= 0xf0 && byte <= 0xf4)); then
			n=4 code=$((byte & 7))
		fi
		for ((i = 1; i < n; i++)); do
			printf -v byte %d "'${rest:i:1}"
			byte=$((byte & 255))
			if ((byte < 0x80 || byte > 0xbf)); then
				n=$i code=0
				break
			fi
			code=$((code << 6 | byte & 63))
		done
		if is_visible "$n" "$code"; then
			CLEAN+=${rest:0:n}
		else
			CLEAN+=$REPLACEMENT IS_CHANGED=yes
		fi
		rest=${rest:n}
	done
}

REPLACEMENT=$'\357\277\275' # U+FFFD
# A start of characters from blocks without hidden ones: most of what people write, at once.
VISIBLE=$'^([\t\n -~]|[\303-\314\316-\327\331][\200-\277]|\342\200[\220-\247]|\342[\202-\277][\200-\277]|\343[\200-\203][\200-\277]|[\344-\354][\200-\277][\200-\277]|\360\237[\200-\277][\200-\277])+'
# Controls, format, tag, variation and filler characters, line and paragraph separators; surrogates.
HIDDEN='0080-009F 00AD-00AD 034F-034F 0600-0605 061C-061C 06DD-06DD 070F-070F 0890-0891 08E2-08E2 115F-1160 17B4-17B5 180B-180F
	200B-200F 2028-202E 2060-206F 3164-3164 D800-DFFF FE00-FE0F FEFF-FEFF FFA0-FFA0 FFF0-FFFB 110BD-110BD 110CD-110CD
	13430-1343F 1BCA0-1BCA3 1D173-1D17A E0000-E0FFF'

is_visible() { # BYTES CODE_POINT: in its shortest form, and not hidden
	local range
	case $1 in
		1) return 1 ;;
		2) (($2 >= 0x80)) ;;
		3) (($2 >= 0x800)) ;;
		4) (($2 >= 0x10000 && $2 <= 0x10ffff)) ;;
	esac || return
	for range in $HIDDEN; do
		(($2 > 0x${range#*-})) || (($2 < 0x${range%-*})) || return
	done
}

cut_text() { # TEXT BYTES -> CUT: its start, up to a whole character
	CUT=${1:0:$2}
	while [[ $CUT = *[$'\200'-$'\277'] ]]; do CUT=${CUT%?}; done
	CUT=${CUT%[$'\300'-$'\377']}
}

OUTPUT_BYTES=15500 # what one call shows of others' words: less than any agent program's limit

quote_body() { # BYTES -> QUOTED, a bar before each line; CLEAN, IS_CHANGED; IS_CUT: it is only the start
	local rest part changed='' IFS='?'
	[ ${#BYTES[@]} -eq 1 ] || changed=yes
	rest="${BYTES[*]}"
	IFS=$' \t\n'
	sanitize "${rest%$'\n'}" "$OUTPUT_BYTES"
	IS_CHANGED+=$changed
	rest=$CLEAN QUOTED='  | ' IS_CUT=''
	while [ -n "$rest" ]; do
		if [ ${#QUOTED} -gt $((OUTPUT_BYTES - 160)) ]; then
			cut_text "$QUOTED" ${#QUOTED}
			QUOTED=$CUT IS_CUT=yes
			break
		fi
		part=${rest:0:32}
		rest=${rest:${#part}}
		QUOTED+=${part//$'\n'/$'\n'  | }
	done
}

format_time() { # UNIX_SECONDS -> TIME, with its date where that is not today's
	printf -v TIME '%02d:%02d UTC' $(($1 / 3600 % 24)) $(($1 / 60 % 60))
	(($1 / 86400 == NOW / 86400)) || { read_date "$1" && TIME="$DATE $TIME"; }
}

format_age() { if [ "$1" -lt 90 ]; then AGE="$1 s ago"; else AGE="$((($1 + 30) / 60)) min ago"; fi; } # SECONDS -> AGE

format_marks() { # MARKS SID -> NOTES: what its writer had not read (of our words: that were said by now, in a log by then)
	local mark name count note
	NOTES=''
	for mark in ${1//,/ }; do
		name=${mark#*:} count=${mark##*:} note=''
		name=${name%%:*}
		case $mark in
			late) note='late: reported as missed before' ;;
			past) note='said before you came' ;;
			unpaired) note='not PAIRED: its sender has not yet proved that it is live' ;;
			unread:*) note="had not read the last $count of $name" ;;
			ahead:*) note="has read words of $name that are not here" ;;
			lost:*) note="has missed $count of $name" ;;
			stranger) note='has read somebody that you were not shown' ;;
			own:*)
				[ -n "$IS_LOG" ] || count=$BROADCASTS
				((name >= count)) || note="had not read your last $((count - name))"
				;;
			direct:*)
				[ -n "$IS_LOG" ] || ! find_peer SID "$2" || count=${P_SEQ[PEER]}
				((name >= count)) || note="had not read your last $((count - name)) direct"
				;;
		esac
		NOTES+="${note:+; $note}"
	done
	NOTES=${NOTES:+ (${NOTES#; })}
}

# Fields of a record: TYPE ARRIVED LABEL PLACE (SID SCOPE SEQ LOST), and what the type has. R -> TEXT; status 1: nothing to tell
format_record() { # R
	local words type line
	if ! read_record "$1"; then
		TEXT="agentalk: LOST: $SESSION/journal/$1 can't be read any more, and with it something that came."
		[ "$1" -gt 0 ]
		return
	fi
	words=($RECORD)
	type=${words[0]} LABEL=${words[2]}
	case $type in
		joined)
			line="JOINED $LABEL. PAIRED follows when it has answered."
			[ "${words[3]}" = agent ] || line="JOINED $LABEL, a person in a browser: write plainly, and give them time."
			;;
		new) line="NEW $LABEL: another session under this name, a restart or somebody else with the link. Ask your user if it matters." ;;
		paired)
			line="PAIRED with $LABEL."
			[ "$ROLE" != create ] || line+=" You opened the channel, so you speak first."
			;;
		left) line="LEFT $LABEL: it has said goodbye." ;;
		gone)
			line="the bridge says that it is gone"
			[ "${words[3]:-}" != expired ] || line="no sign of life for hours"
			line="LEFT $LABEL: $line. If you need it, tell your user."
			;;
		away) line="AWAY $LABEL: not heard of for minutes. What you say is kept for it." ;;
		back) line="BACK $LABEL." ;;
		crowd) line="AGENTS come and go faster than can be told: $CALL who lists them." ;;
		resumed) line="RESUMED: the bridge had lost the channel. It is open again, and the others come back by themselves." ;;
		gap) line="GAP: the bridge could not keep everything; the others were asked to send it again." ;;
		earlier) line="EARLIER: $LABEL said ${words[7]} before you came, which are not here." ;;
		missed) line="MISSED ${words[7]} from $LABEL: ask $LABEL to repeat what you need." ;;
		undelivered) line="NOT DELIVERED: ${words[3]} of your direct messages to $LABEL; another session took its place. Say them again." ;;
		malformed) line="MALFORMED: a message of $LABEL breaks the protocol and is not shown. Its program may be another version." ;;
		unreadable) line="UNREADABLE: nobody here can decrypt something that came. $CALL who counts such." ;;
		tampered) line="TAMPERED ${words[3]}: something under the name of $LABEL was not genuine and is not shown. Tell your user." ;;
		copied) line="RESTORED: the bridge has given out more than this session fetched, as if it were a copy. It goes on as a new one under the same name. ${words[3]} of your messages are not confirmed: $CALL log shows them; say again what matters." ;;
		late-file) line="FILE #${words[4]} from $LABEL has not come whole for a minute: it is asked for again whenever $LABEL is heard." ;;
		badfile) line="FILE #${words[7]:-${words[4]}} from $LABEL is broken, or not what its sender says, and was not saved." ;;
		file)
			decode_name "${words[7]}"
			line="FILE #${words[5]} from $LABEL, ${words[6]} bytes: its SHA-256 is as announced, saved as:"$'\n'"  | $SESSION/inbox/${words[5]}-$LABEL-$FILE_NAME"
			;;
		coming)
			format_head
			decode_name "${words[12]}"
			line="COMING $HEAD_LINE: a file"
			[[ ,${words[11]}, != *,ask,* ]] || line+=", fetched when you ask ($CALL show ${words[8]})"
			line+=":"$'\n'"  | $FILE_NAME"
			;;
		msg)
			format_head
			format_words "$HEAD_LINE" "$SESSION/inbox/${words[12]}" "${words[9]}"
			return
			;;
		*) return 1 ;;
	esac
	TEXT="agentalk: $line"
}

format_head() { # words, of a message -> HEAD_LINE
	local scope=${words[7]} arrived=${words[1]} said=$((words[10] / 1000)) came=''
	[ "$scope" = all ] || scope='you alone'
	if ((said - arrived > 60 || arrived - said > 60)); then
		format_time "$arrived"
		came=", came $TIME"
	fi
	format_time "$said"
	format_marks "${words[11]}" "${words[3]}"
	HEAD_LINE="#${words[8]} from $LABEL to $scope, ${words[9]} bytes, ${came:+said }$TIME$came$NOTES"
}

format_words() { # LINE PATH SIZE -> TEXT; its start in one line where IS_BRIEF
	local note='' line
	if ! read_file "$2" || [ "$BYTES_LENGTH" -ne "$3" ]; then
		TEXT="agentalk: $1: the file with its words, $2, is gone or changed"
		return
	fi
	quote_body
	[ -z "$IS_CHANGED" ] || note="some of its characters can't be shown; the exact bytes are in"
	if [ -n "$IS_BRIEF" ]; then
		line=${CLEAN//$'\n'/ }
		[ "$line" = "$CLEAN" ] || note='its lines are joined here; the whole is in'
		cut_text "$line" 390
		[ ${#line} -le 390 ] || line=$CUT… IS_CUT=yes
		QUOTED="  | $line"
	fi
	[ -z "$IS_CUT" ] || note='that was its beginning; the whole is in'
	TEXT="agentalk: $1:"$'\n'"$QUOTED${note:+$'\n'"agentalk: $note $2"}"
}

read_record() { # R -> RECORD
	read_file "$SESSION/journal/$1" && [[ ${BYTES[0]} = *$'\n' ]] || return
	RECORD=${BYTES[0]%$'\n'}
}

# ---- printing: each record once. What was printed counts as shown, for our receipts, too ----

claim_printer() { # for ten seconds. Status 1: another process prints, as far as can be seen
	local until=${PRINTER##*:}
	case $PRINTER in
		- | "$PROCESS_ID:"*) ;;
		*)
			is_running "${PRINTER%:*}"
			[[ $? -eq 1 || $until -lt $TICKS || $until -gt $((TICKS + 10)) ]] || return
			AGAIN=$((RECORDS - ${#NEW_RECORDS[@]})) # it may have printed these
			;;
	esac
	PRINTER=$PROCESS_ID:$((TICKS + 10))
}

holds_printer() { # Status 1: another process has taken over, as this one was stopped
	read_clock
	refresh_state
	[ "${PRINTER%:*}" = "$PROCESS_ID" ] || return
	((TICKS + 3 < ${PRINTER##*:})) || { claim_printer && commit_state; }
}

print_new() { # at most LEFT characters -> NEWS (yes; joined or more: something should follow), HAS_MORE
	local r last
	NEWS='' HAS_MORE=''
	while [ "$SHOWN" -lt "$RECORDS" ]; do
		[ "${PRINTER%:*}" = "$PROCESS_ID" ] || { claim_printer || return 0; } && { commit_state || continue; }
		is_watched || exit 1
		hold # what was printed and not noted would be printed again
		last=$SHOWN
		for ((r = SHOWN + 1; r <= RECORDS; r++)); do
			holds_printer || break
			[ "$r" -gt "$SHOWN" ] || continue
			if [ "$r" -ne "$TOLD" ] && format_record "$r"; then
				[ "$r" -gt "$AGAIN" ] || TEXT=${TEXT/#agentalk: /agentalk: (perhaps again) }
				[ "$LEFT" -eq "$OUTPUT_BYTES" ] || [ ${#TEXT} -le "$LEFT" ] || { HAS_MORE=yes && break; }
				print "$TEXT"
				((LEFT -= ${#TEXT} + 1))
				[ "$LEFT" -gt 0 ] || LEFT=0
				note_news
			fi
			last=$r
		done
		while :; do
			for ((r = SHOWN + 1; r <= last; r++)); do note_shown "$r"; done
			[ "$SHOWN" -ge "$last" ] || SHOWN=$last
			[ "${PRINTER%:*}" != "$PROCESS_ID" ] || PRINTER=-
			! commit_state || break
		done
		release
		[ -z "$HAS_MORE" ] || return 0
	done
}

note_news() { # RECORD -> NEWS; ANSWER: the command that answers it
	local words=($RECORD)
	case ${words[0]} in
		away | back | gap | resumed | skip | earlier) ;;
		joined) NEWS=${NEWS:-joined} ;;
		msg)
			NEWS=yes ANSWER=say
			[ "${words[7]}" != me ] || ANSWER="dm ${words[2]}"
			;;
		coming | file) # its explanation follows, or its user has to ask for it
			NEWS=${NEWS:-more}
			[[ ,${words[11]:-}, != *,ask,* ]] || NEWS=yes
			;;
		*) NEWS=yes ;;
	esac
}

note_shown() { # R: the agent was shown it
	local words
	read_record "$1" || return
	words=($RECORD)
	[[ ${#words[@]} -ge 7 && ${words[4]} = [BD] ]] && find_peer SID "${words[3]}" || return
	if [ "${words[4]}" = D ]; then
		raise "P_SHOWN_D[PEER]" "${words[5]}"
		return
	fi
	raise "P_SHOWN_B[PEER]" "${words[5]}"
	P_SHOWN_LOST[PEER]=${words[6]}
	case ${words[0]} in missed | earlier) ;; *) raise "P_SHOWN_MARK[PEER]" "${words[5]}" ;; esac
}
