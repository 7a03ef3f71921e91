# ---- words for the screen ----

# Nothing that a peer wrote can move the cursor, turn text around, hide, or pass for a line of agentalk's: only well-formed
# UTF-8 of visible characters is shown, behind a bar. The bytes in the inbox are exact.
sanitize() { # TEXT [BYTES] -> CLEAN, not much more than BYTES of it; IS_CHANGED
	local rest=$1 limit=${2:-$((3 * ${#1}))} part n i code byte
	CLEAN='' IS_CHANGED=''
	case $rest in *$'\r\n'*) rest=${rest//$'\r\n'/$'\n'} IS_CHANGED=yes ;; esac
	while [[ -n $rest && ${#CLEAN} -le $limit ]]; do
		if [[ ${rest:0:256} =~ $VISIBLE ]]; then
			part=${BASH_REMATCH[0]}
			CLEAN=$CLEAN$part rest=${rest:${#part}}
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
			CLEAN=$CLEAN${rest:0:n}
		else
			CLEAN=$CLEAN$REPLACEMENT IS_CHANGED=yes
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

quote_body() { # BYTES -> QUOTED, a bar before each line; CLEAN, IS_CHANGED; IS_CUT: only its start, as it would be too long
	local rest part changed='' IFS='?'
	[ ${#BYTES[@]} -eq 1 ] || changed=yes
	rest="${BYTES[*]}"
	IFS=$' \t\n'
	sanitize "${rest%$'\n'}" "$OUTPUT_BYTES"
	IS_CHANGED=$IS_CHANGED$changed
	rest=$CLEAN QUOTED='  | ' IS_CUT=''
	while [ -n "$rest" ]; do
		if [ ${#QUOTED} -gt $((OUTPUT_BYTES - 160)) ]; then
			cut_text "$QUOTED" ${#QUOTED}
			QUOTED=$CUT IS_CUT=yes
			break
		fi
		part=${rest:0:32}
		rest=${rest:${#part}}
		QUOTED=$QUOTED${part//$'\n'/$'\n'  | }
	done
}

format_time() { # UNIX_SECONDS -> TIME, with its date where that is not today's
	local days=$(($1 / 86400)) era year month day
	printf -v TIME '%02d:%02d UTC' $(($1 / 3600 % 24)) $(($1 / 60 % 60))
	((days != NOW / 86400)) || return 0
	days=$((days + 719468)) # from 1970-01-01 to days since 0000-03-01, and to a date by the civil calendar
	era=$((days / 146097)) days=$((days % 146097))
	year=$(((days - days / 1460 + days / 36524 - days / 146096) / 365))
	day=$((days - (365 * year + year / 4 - year / 100)))
	month=$(((5 * day + 2) / 153))
	day=$((day - (153 * month + 2) / 5 + 1))
	month=$((month < 10 ? month + 3 : month - 9))
	printf -v TIME '%04d-%02d-%02d %s' $((year + era * 400 + (month <= 2))) "$month" "$day" "$TIME"
}

format_age() { if [ "$1" -lt 90 ]; then AGE="$1 s ago"; else AGE="$((($1 + 30) / 60)) min ago"; fi; } # SECONDS -> AGE

format_marks() { # MARKS -> NOTES: what its writer had not read; OWN_BROADCASTS, OWN_DIRECTS: what we had said by then
	local mark name count own
	NOTES=''
	for mark in ${1//,/ }; do
		name=${mark#*:} count=${mark##*:}
		name=${name%%:*}
		case $mark in
			late) NOTES="$NOTES; late: reported as missed before" ;;
			past) NOTES="$NOTES; said before you came" ;;
			unpaired) NOTES="$NOTES; not PAIRED: its sender has not yet proved that it is live" ;;
			unread:*) NOTES="$NOTES; had not read the last $count of $name" ;;
			ahead:*) NOTES="$NOTES; has read words of $name that are not here" ;;
			lost:*) NOTES="$NOTES; has missed $count of $name" ;;
			stranger) NOTES="$NOTES; has read somebody that you were not shown" ;;
			own:*)
				own=${OWN_BROADCASTS:-$BROADCASTS}
				((count >= own)) || NOTES="$NOTES; had not read your last $((own - count))"
				;;
			direct:*)
				own=0
				case $OWN_DIRECTS in
					live) ! find_peer LABEL "$LABEL" || own=${P_SEQ[PEER]} ;;
					*" $LABEL:"*) own=${OWN_DIRECTS##*" $LABEL:"} && own=${own%% *} ;;
				esac
				((count >= own)) || NOTES="$NOTES; had not read your last $((own - count)) direct"
				;;
		esac
	done
	NOTES=${NOTES:+ (${NOTES#; })}
}

# Fields of a record: TYPE ARRIVED LABEL PLACE (SID SCOPE SEQ LOST), and what the type has. R -> TEXT; status 1: nothing to tell
format_record() { # R
	local words type at line name='' path scope number size said
	if ! read_record "$1"; then
		TEXT="agentalk: LOST: $SESSION/journal/$1 can't be read any more, and with it something that came."
		[ "$1" -gt 0 ]
		return
	fi
	# shellcheck disable=SC2206
	words=($RECORD)
	type=${words[0]} at=${words[1]} LABEL=${words[2]}
	case $type in
		joined)
			line="JOINED $LABEL. PAIRED follows when it has answered."
			[ "${words[3]}" = agent ] || line="JOINED $LABEL, a person in a browser: write plainly, and give them time."
			;;
		new) line="NEW $LABEL: another session under this name, a restart or somebody else who has the link. If that matters, ask your user." ;;
		paired)
			line="PAIRED with $LABEL. Who opened the channel speaks first."
			[ "$ROLE" = create ] || line="PAIRED with $LABEL."
			;;
		left) line="LEFT $LABEL: it has said goodbye." ;;
		gone)
			line="LEFT $LABEL: the bridge says that it is gone. If you still need it, tell your user."
			[ "${words[3]:-}" != expired ] || line="LEFT $LABEL: no sign of life for hours. If you still need it, tell your user."
			;;
		away) line="AWAY $LABEL: not heard of for minutes. What you say is kept for it." ;;
		back) line="BACK $LABEL." ;;
		crowd) line="AGENTS come and go faster than can be told: $CALL who shows who is there." ;;
		resumed) line="RESUMED: the bridge had lost the channel; it is open again under the same link, and the others come back by themselves." ;;
		gap) line="GAP: the bridge could not keep everything; the others were asked to send it again." ;;
		earlier) line="EARLIER: $LABEL said ${words[7]} before you came, which are not here." ;;
		missed) line="MISSED ${words[7]} from $LABEL: asked for without success. Ask $LABEL to repeat what you need." ;;
		undelivered) line="NOT DELIVERED: ${words[3]} of your direct messages to $LABEL; another session took its place. Say them again." ;;
		malformed) line="MALFORMED: a message of $LABEL breaks the protocol and is not shown. Its program may be another version." ;;
		unreadable) line="UNREADABLE: something came that nobody here can decrypt, and is not shown. $CALL who counts such." ;;
		tampered) line="TAMPERED ${words[3]}: something under the name of $LABEL was not genuine and is not shown. Tell your user." ;;
		copied) line="RESTORED: this session was a copy of an older one, and goes on as a new one under the same name. ${words[3]} of your messages are not confirmed: $CALL log shows them; say again what matters." ;;
		late-file) line="FILE #${words[4]} from $LABEL has not come whole for a minute: it is asked for again whenever $LABEL is heard." ;;
		badfile)
			number=${words[7]:-${words[4]}}
			line="FILE #$number from $LABEL is broken, or not what its sender says, and was not saved."
			;;
		msg | coming | file)
			if [ "$type" = file ]; then
				decode_name "${words[7]}"
				line="FILE #${words[5]} from $LABEL, ${words[6]} bytes: its SHA-256 is as announced, saved as"
				name=$SESSION/inbox/${words[5]}-$LABEL-$FILE_NAME
			else
				scope=${words[7]} number=${words[8]} size=${words[9]} said=${words[10]}
				format_said "$at" "$said"
				[ "$scope" = me ] && scope='you alone'
				format_marks "${words[11]}"
				line="#$number from $LABEL to $scope, $size bytes, $TIME$NOTES"
				path=$SESSION/inbox/${words[12]}
				if [ "$type" = coming ]; then
					decode_name "${words[12]}"
					line="COMING $line: a file" name=$FILE_NAME
					[[ ,${words[11]}, != *,ask,* ]] || line="$line, fetched when you ask ($CALL show $number)"
				else
					format_words "$line" "$path" "$size"
					return
				fi
			fi
			;;
		*) return 1 ;;
	esac
	TEXT="agentalk: $line${name:+:$'\n'  | $name}"
}

format_said() { # ARRIVED SAID_MS -> TIME
	local said=$(($2 / 1000)) arrived=$1
	format_time "$said"
	((said - arrived > 60 || arrived - said > 60)) || return 0
	local first=$TIME
	format_time "$arrived"
	TIME="said $first, came $TIME"
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

holds_printer() { # Status 1: another process has taken over, since this one was stopped for so long
	read_clock
	refresh_state
	[ "${PRINTER%:*}" = "$PROCESS_ID" ] || return
	((TICKS + 3 < ${PRINTER##*:})) || { claim_printer && commit_state; }
}

print_new() { # what this call may still print is LEFT characters -> NEWS (yes; joined or more: something should follow); HAS_MORE
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
			if format_record "$r" && ! is_superseded "$r"; then
				[ "$r" -gt "$AGAIN" ] || TEXT=${TEXT/#agentalk: /agentalk: (perhaps again) }
				[ "$LEFT" -eq "$OUTPUT_BYTES" ] || [ ${#TEXT} -le "$LEFT" ] || { HAS_MORE=yes && break; }
				print "$TEXT"
				((LEFT -= ${#TEXT} + 1))
				[ "$LEFT" -gt 0 ] || LEFT=0
			fi
			last=$r
			note_news
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

is_superseded() { # R: a file on its way that has come meanwhile
	local number r
	[[ $RECORD = coming\ * ]] || return
	# shellcheck disable=SC2206
	number=($RECORD)
	for ((r = $1 + 1; r <= RECORDS; r++)); do
		read_record "$r" && [[ $RECORD = file\ *" - - ${number[8]} "* ]] && return
	done
	RECORD="${number[*]}"
	return 1
}

note_news() { # RECORD -> NEWS
	local words
	# shellcheck disable=SC2206
	words=($RECORD)
	case ${words[0]} in
		away | back | gap | resumed | skip | earlier) ;;
		joined) NEWS=${NEWS:-joined} ;;
		coming)
			NEWS=${NEWS:-more}
			[[ ,${words[11]}, != *,ask,* ]] || NEWS=yes
			;;
		*) NEWS=yes ;;
	esac
}

note_shown() { # R: the agent was shown it
	local words
	read_record "$1" || return
	# shellcheck disable=SC2206
	words=($RECORD)
	[[ ${#words[@]} -ge 7 && ${words[4]} = [BD] ]] && find_peer_by_start "${words[3]}" || return
	if [ "${words[4]}" = D ]; then
		raise "P_SHOWN_D[PEER]" "${words[5]}"
		return
	fi
	raise "P_SHOWN_B[PEER]" "${words[5]}"
	P_SHOWN_LOST[PEER]=${words[6]}
	case ${words[0]} in missed | earlier) ;; *) raise "P_SHOWN_MARK[PEER]" "${words[5]}" ;; esac
}

find_peer_by_start() { # 16 hex of a sid -> PEER
	for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do [ "${P_SID[PEER]:0:16}" != "$1" ] || return 0; done
	return 1
}
