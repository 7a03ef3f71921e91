# ---- state: what this session knows, changed by one process at a time ----

# docs/architecture.md has the session's folder, these fields and the columns below.
STATE_FIELDS='SID IDENTITY_WHEN_MADE AGAIN ASKED_AT CURSOR EPOCH FIRST_EPOCH JOIN_INDEX RECORDS SHOWN MESSAGES OUT SENT BROADCASTS OLDEST OLDEST_SEQ OUT_BYTES PEERS PRINTER
	POLLED_AT EPOCH_AT NEW_SINCE NEW_COUNT PRESENCE_SINCE PRESENCE_COUNT REPORT_COUNT TAMPERED UNREADABLE STARTED_OVER FETCHED REPORTED REACH TOLD'

set_peers() { # COUNT -> PEERS, how many rows there are; ROWS, their numbers
	local i
	PEERS=$1 ROWS=''
	for ((i = 0; i < PEERS; i++)); do ROWS+="$i "; done
}

set_row() { # PEER, and its fields in order
	P_SID[$1]=$2 P_ID[$1]=$3 P_NAME[$1]=$4 P_LABEL[$1]=$5 P_KIND[$1]=$6 P_STATE[$1]=$7 P_PAIRED[$1]=$8 P_MET[$1]=$9
	P_REACH[$1]=${10} P_BASE[$1]=${11} P_FIRST[$1]=${12} P_B[$1]=${13} P_B_TOP[$1]=${14} P_B_MARK[$1]=${15}
	P_B_LOST[$1]=${16} P_B_GAPS[$1]=${17} P_B_SINCE[$1]=${18} P_B_UPTO[$1]=${19} P_D[$1]=${20} P_D_TOP[$1]=${21}
	P_D_LOST[$1]=${22} P_D_GAPS[$1]=${23} P_D_SINCE[$1]=${24} P_D_UPTO[$1]=${25} P_LAST_SHOWN[$1]=${26} P_SHOWN_B[$1]=${27}
	P_SHOWN_MARK[$1]=${28} P_SHOWN_LOST[$1]=${29} P_SHOWN_D[$1]=${30} P_ACK_B[$1]=${31} P_ACK_D[$1]=${32} P_HAS_B[$1]=${33}
	P_HAS_D[$1]=${34} P_SEQ[$1]=${35} P_FROM[$1]=${36} P_DUE[$1]=${37} P_SYNC_AT[$1]=${38} P_ACK_AT[$1]=${39}
	P_UNACKED_SINCE[$1]=${40} P_REPEATED[$1]=${41} P_BYE[$1]=${42} P_BYE_AT[$1]=${43}
}

get_row() { # PEER -> ROW
	ROW="${P_SID[$1]} ${P_ID[$1]} ${P_NAME[$1]} ${P_LABEL[$1]} ${P_KIND[$1]} ${P_STATE[$1]} ${P_PAIRED[$1]} ${P_MET[$1]}"
	ROW+=" ${P_REACH[$1]} ${P_BASE[$1]} ${P_FIRST[$1]} ${P_B[$1]} ${P_B_TOP[$1]} ${P_B_MARK[$1]} ${P_B_LOST[$1]}"
	ROW+=" ${P_B_GAPS[$1]} ${P_B_SINCE[$1]} ${P_B_UPTO[$1]} ${P_D[$1]} ${P_D_TOP[$1]} ${P_D_LOST[$1]} ${P_D_GAPS[$1]}"
	ROW+=" ${P_D_SINCE[$1]} ${P_D_UPTO[$1]} ${P_LAST_SHOWN[$1]} ${P_SHOWN_B[$1]} ${P_SHOWN_MARK[$1]} ${P_SHOWN_LOST[$1]}"
	ROW+=" ${P_SHOWN_D[$1]} ${P_ACK_B[$1]} ${P_ACK_D[$1]} ${P_HAS_B[$1]} ${P_HAS_D[$1]} ${P_SEQ[$1]} ${P_FROM[$1]}"
	ROW+=" ${P_DUE[$1]} ${P_SYNC_AT[$1]} ${P_ACK_AT[$1]} ${P_UNACKED_SINCE[$1]} ${P_REPEATED[$1]} ${P_BYE[$1]}"
	ROW+=" ${P_BYE_AT[$1]}"
}

ROW_SHAPE='^([0-9a-f]{32} ){2}[a-z0-9._-]+ [a-z0-9._~-]+ (agent|human) [a-z]+( (-|-?[0-9][0-9a-f:,-]*|(listening|wakes|reads|-):[0-9]+|sync|ack|sync[+]ack)){36}$'

read_state() { # -> all of it, as of the newest commit
	local tries file line field n i
	for ((tries = 0; tries < 100; tries++)); do
		list_files "$SESSION/state/"
		COMMIT=-1
		for file in "${FILES[@]}"; do
			[[ ${file##*/} = head.* ]] || continue
			line=${file##*/head.}
			n=${line%%.*}
			! is_decimal "$n" || [ "$n" -le "$COMMIT" ] || COMMIT=$n WRITER=${line#*.}
		done
		read_file "$SESSION/state/commit.$COMMIT.$WRITER" && [[ ${BYTES[0]} = *$'\nend' ]] && break
	done
	if [ "$tries" -eq 100 ]; then
		die_gone
		die_damaged
	fi
	for file in "${FILES[@]}"; do # no other commit up to this one counts
		line=${file##*/commit.}
		n=${line%%.*}
		! is_decimal "$n" || [ "$n" -gt "$COMMIT" ] || [ "$line" = "$COMMIT.$WRITER" ] || REMOVE+=("$file")
	done
	split_lines "${BYTES[0]}"
	forget_changes
	i=0
	line=(${LINES[0]})
	for field in $STATE_FIELDS; do # no other word may get into arithmetic
		case $field in
			SID | EPOCH | FIRST_EPOCH) is_hex "${line[i]:-}" 32 || [ "${line[i]:-}" = 0 ] || die_damaged ;;
			REPORTED | REACH) ;;
			*) [[ ${line[i]:-} && ${line[i]} != *[!0-9:-]* ]] || die_damaged ;;
		esac
		printf -v "$field" %s "${line[i++]}"
	done
	is_decimal "$PEERS" && [ "$PEERS" -lt ${#LINES[@]} ] || die_damaged
	set_peers "$PEERS"
	for n in $ROWS; do
		[[ ${LINES[n + 1]:-} =~ $ROW_SHAPE ]] || die_damaged
		# shellcheck disable=SC2086
		set_row "$n" ${LINES[n + 1]}
	done
	i=("${LINES[@]:PEERS+1}")
	for line in "${i[@]}"; do finish "$line"; done
}

die_damaged() { die "the state of $SESSION is damaged" "leave it, and create or join with another session"; }

forget_changes() { # what belongs to the next commit: lines for finish, and files to remove after it
	NEW_RECORDS=() NEW_MOVES=() NEW_DIGESTS=() NEW_REMOVES=()
}

refresh_state() { [ -e "$SESSION/state/head.$COMMIT.$WRITER" ] || read_state; } # where nothing of it was changed since

finish() { # LINE of a commit: 'record N TEXT', 'move FROM TO' or 'digest FILE SEQ HASH'. It may be done already
	local rest=${1#* }
	local file=$SESSION/${rest%% *} text=${rest#* }
	[[ ${rest%% *} != *..* && $text != *../* ]] || die_damaged # each stays in the session's folder
	case $1 in
		record\ *)
			file=$SESSION/journal/${rest%% *}
			read_file "$file" && [ "${BYTES[0]}" = "$text"$'\n' ] || write_same "$file" "$text"$'\n'
			;;
		move\ *) [ ! -e "$file" ] || rename "$file" "$SESSION/$text" || [ ! -e "$file" ] || die_disk ;;
		digest\ *)
			read_file "$file" || :
			[[ ${BYTES[0]} = *$'\n'"$text"$'\n'* ]] || append_file "$file" $'\n'"$text"$'\n' || die_disk
			;;
	esac
}

commit_state() { # Status 1: another process was faster; its state is read, our changes are forgotten
	local text='' field n=$((COMMIT + 1)) i lines
	for field in $STATE_FIELDS; do text+="${!field:--} "; done
	for i in $ROWS; do
		get_row "$i"
		text+=$'\n'$ROW
	done
	lines=("${NEW_MOVES[@]}" "${NEW_DIGESTS[@]}" "${NEW_RECORDS[@]}")
	for i in "${lines[@]}"; do text+=$'\n'$i; done
	write_file "$SESSION/state/commit.$n.$PROCESS_ID" "$text"$'\nend'
	hold
	IS_COMMITTING=yes
	if ! rename "$SESSION/state/head.$COMMIT.$WRITER" "$SESSION/state/head.$n.$PROCESS_ID" && [ ! -e "$SESSION/state/head.$n.$PROCESS_ID" ]; then
		IS_COMMITTING=''
		release
		[ ! -e "$SESSION/state/head.$COMMIT.$WRITER" ] || die_disk
		[ -e "$SESSION/keys" ] || die_left
		REMOVE+=("$SESSION/state/commit.$n.$PROCESS_ID")
		read_state
		return 1
	fi
	REMOVE+=("${NEW_REMOVES[@]}" "$SESSION/state/commit.$COMMIT.$WRITER")
	COMMIT=$n WRITER=$PROCESS_ID
	for i in "${lines[@]}"; do finish "$i"; done
	forget_changes
	IS_COMMITTING=''
	release
	[ ${#REMOVE[@]} -lt 40 ] || { remove "${REMOVE[@]}" && REMOVE=(); }
}

add_record() { # TYPE WORDS…: shown after the next commit
	((RECORDS += 1))
	NEW_RECORDS+=("record $RECORDS $1 $NOW ${*:2}")
}

write_later() { # PATH TEXT: after the next commit it is there, in the session's folder
	new_temp
	write_file "$NEW_TEMP" "$2"
	add_move "$NEW_TEMP" "$1"
}

write_body_later() { # PATH TEXT, then BODY
	new_temp
	write_body "$NEW_TEMP" "$2"
	add_move "$NEW_TEMP" "$1"
}

add_move() { NEW_MOVES+=("move ${1#"$SESSION/"} $2"); } # FROM TO, relative to the session's folder

remove_later() { NEW_REMOVES+=("$@"); } # FILE…, after the next commit

read_count() { # FILE -> COUNT. Status 1: it has no number
	read_file "$1" && is_decimal "${BYTES[0]}" && COUNT=${BYTES[0]}
}

remove_stale() { # once in an hour: what killed processes left an hour ago
	local file line
	read_count "$SESSION/swept" && ((NOW >= COUNT && NOW - COUNT < 3600)) && return
	list_files "$SESSION/tmp/"
	for file in "${FILES[@]}"; do
		line=${file##*/}
		[[ ! $file -ot $SESSION/swept ]] || is_running "${line%%.*}" || REMOVE+=("$file")
	done
	remove "$SESSION/swept"
	write_new_file "$SESSION/swept" "$NOW" || :
}

is_recent() { (($1 > 0 && $1 <= TICKS && TICKS - $1 < SYNC_SECONDS)); } # TICKS

new_temp() { # -> NEW_TEMP: a name that no other file has
	((TEMP_COUNT += 1))
	NEW_TEMP=$TMP.$TEMP_COUNT
}

report() { # CAUSE LABEL: not genuine. Told once for each, at most 60 in ten minutes, else counted
	((TAMPERED += 1))
	start_window
	[[ $REPORT_COUNT -lt 60 && ,$REPORTED, != *",$1:$2,"* ]] || return 0
	((REPORT_COUNT += 1))
	REPORTED+=",$1:$2"
	[ ${#REPORTED} -le 2000 ] || REPORTED=-,${REPORTED#*,*,*,*,*,*,*,*,*,}
	add_record tampered "$2" "$1"
}

assign() { let "$1 = $2, 1"; } # VARIABLE NUMBER

raise() { let "$1 = $1 < $2 ? $2 : $1, 1"; } # VARIABLE NUMBER: to at least that

die_disk() {
	[[ ! -e $SESSION/session || -e $SESSION/keys ]] || die_left
	die_gone
	die "can't write in $SESSION" "is the disk full or read-only? Make room and call again; nothing is lost or half-done"
}

die_gone() { [ -d "$SESSION" ] || die "the folder of this session is gone: $SESSION" "$CALL create, or join by the link again"; }

die_left() { die "this session has left the channel" "what was said: $CALL log. A new one: $CALL create $BRIDGE"; }

hold() { ((HELD += 1)); } # until release no signal but KILL ends this process

release() {
	((HELD -= 1, 1))
	[ -z "$IS_ENDING" ] || on_signal
}

# ---- one process polls; locks only save work ----

correct_ticks() { # -> TICKS that never fall, also where the time of day is set back
	((TICKS + SET_BACK >= LAST_TICKS)) || SET_BACK=$((LAST_TICKS - TICKS))
	((TICKS += SET_BACK, LAST_TICKS = TICKS, 1))
}

find_place() { # -> PLACE: when process 1 began. In another container the same numbers are other processes
	local words
	read_line /proc/1/stat || LINE=''
	words=(${LINE##*) })
	PLACE=${words[19]:-0}
}

is_running() { # PROCESS_ID. Status 1: it has ended; 2: it belongs to another container, where nobody can see
	local pid=${1#*-}
	[ "${1##*-}" = "$PLACE" ] || return 2
	is_process "${pid%%-*}"
}

is_locked() { # poll or wake: by another process that runs
	local owner until
	read_file "$SESSION/$1.lock"
	owner=${BYTES[0]%% *} until=${BYTES[0]#* }
	[ "$owner" != "$PROCESS_ID" ] && is_decimal "$until" && ((until >= TICKS && until <= TICKS + 90)) && is_running "$owner"
}

lock() { # poll or wake, SECONDS. Status 1: another process holds it
	! is_locked "$1" || return
	write_file "$SESSION/$1.lock" "$PROCESS_ID $((TICKS + $2))"
}

unlock() { # poll or wake
	read_file "$SESSION/$1.lock"
	[ "${BYTES[0]%% *}" != "$PROCESS_ID" ] || write_file "$SESSION/$1.lock" ''
}
