# ---- state: what this session knows, changed by one process at a time ----

# session       who we are, written once              journal/R   record R: one thing that happened, for the screen
# state/        one commit, and the head that names it outbox/N   what we sealed, in order
# keys/         private keys and passphrases          received/   content that came before its turn
# inbox/        what came, for the agent              digests/    of what came, so that a number stays one message
# sent/, files/ pieces of files                       tmp/        what running processes write
#
# The state is a file state/commit.N.WRITER. It counts once somebody has renamed state/head.N-1.… to state/head.N.WRITER:
# only one process can, however many run, freeze or are killed. Whoever lost reads the new state and does its work again.
# A commit also lists records to write and files to move. Whoever reads it does what is left of that: doing it twice
# changes nothing.

STATE_FIELDS='CURSOR EPOCH FIRST_EPOCH JOIN_INDEX RECORDS SHOWN MESSAGES OUT SENT HIGHEST BROADCASTS OLDEST OLDEST_SEQ OUT_BYTES PEERS PRINTER
	POLLED_AT NEW_SINCE NEW_COUNT PRESENCE_SINCE PRESENCE_COUNT UNREADABLE STARTED_OVER CHANNEL_OPEN REPORTED'

# A row for each session of somebody else that we met, oldest first. B and D: its broadcasts and its direct messages to us.
# STATE: here, away, lost (not seen since the bridge restarted), gone (the bridge's word), left (its own). PAIRED: when,
# 0: not yet. BASE: the first B that it repeats for us, - if not known; FIRST: the highest F of its `sent`. B, D: shown or
# given up, at least queued for the screen, up to here; MARK: the last B of these; TOP: the highest that it named; LOST: B
# given up from BASE on; GAPS: what was given up. SINCE and UPTO: since when, and up to what, something is missing.
# SHOWN: the same of what the agent was shown. ACK: what it says was shown there of ours; HAS: stored there. SEQ: our last
# direct message to it; FROM: our first broadcast that we repeat for it. DUE: what we owe it (sync, ack), - for nothing.
PEER_FIELDS='SID ID NAME LABEL KIND CARD STATE PAIRED MET REACH BASE FIRST B B_TOP B_MARK B_LOST B_GAPS B_SINCE B_UPTO D D_TOP
	D_LOST D_GAPS D_SINCE D_UPTO LAST_SHOWN SHOWN_B SHOWN_MARK SHOWN_LOST SHOWN_D ACK_B ACK_D HAS_B HAS_D SEQ FROM DUE SYNC_AT ACK_AT
	UNACKED_SINCE REPEATED BYE BYE_AT'

read_state() { # -> all of it, as of the newest commit
	local tries file line field n i
	for ((tries = 0; tries < 100; tries++)); do
		list_files "$SESSION/state/head."
		COMMIT=-1
		for file in "${FILES[@]}"; do
			line=${file##*/head.}
			n=${line%%.*}
			! is_decimal "$n" || [ "$n" -le "$COMMIT" ] || COMMIT=$n WRITER=${line#*.}
		done
		read_file "$SESSION/state/commit.$COMMIT.$WRITER" && [[ ${BYTES[0]} = *$'\nend' ]] && break
	done
	[ "$tries" -lt 100 ] || die "the state of $SESSION is damaged" "leave it, and create or join with another session"
	split_lines "${BYTES[0]}"
	NEW_RECORDS=() NEW_MOVES=()
	i=0
	# shellcheck disable=SC2206
	line=(${LINES[0]})
	for field in $STATE_FIELDS; do printf -v "$field" %s "${line[i++]}"; done
	# shellcheck disable=SC2086
	read_table "$SESSION/state/commit.$COMMIT.$WRITER" P_ $PEER_FIELDS
	# shellcheck disable=SC2206
	line=($PEER_FIELDS)
	n=$((PEERS > 0 ? ${#line[@]} + 1 : 1)) # LINES has no empty ones
	for (( ; n < ${#LINES[@]} - 1; n++)); do finish "${LINES[n]}"; done
}

refresh_state() { [ -e "$SESSION/state/head.$COMMIT.$WRITER" ] || read_state; } # where nothing of it was changed since

finish() { # LINE of a commit: `record N TEXT` or `move FROM TO`. It may be done already
	local what=${1%% *} rest=${1#* }
	local file=$SESSION/${rest%% *} text=${rest#* }
	case $what in
		record)
			file=$SESSION/journal/${rest%% *}
			read_file "$file" && [ "${BYTES[0]}" = "$text"$'\n' ] || write_file "$file" "$text"$'\n'
			;;
		move) [ ! -e "$file" ] || rename "$file" "$SESSION/$text" || [ ! -e "$file" ] || die_disk ;;
	esac
}

commit_state() { # Status 1: another process was faster; its state is read, and what we had changed is forgotten
	local text='' field n=$((COMMIT + 1)) i column
	for field in $STATE_FIELDS; do text="$text${!field} "; done
	for field in $PEER_FIELDS; do
		column="P_${field}[*]"
		text=$text$'\n'"${!column}"
	done
	for i in "${NEW_RECORDS[@]}" "${NEW_MOVES[@]}"; do text=$text$'\n'$i; done
	write_file "$SESSION/state/commit.$n.$PROCESS_ID" "$text"$'\nend'
	if ! rename "$SESSION/state/head.$COMMIT.$WRITER" "$SESSION/state/head.$n.$PROCESS_ID"; then
		REMOVE[${#REMOVE[@]}]=$SESSION/state/commit.$n.$PROCESS_ID
		[ ! -e "$SESSION/state/head.$COMMIT.$WRITER" ] || die_disk
		[ -e "$SESSION/keys" ] || die_left
		read_state
		return 1
	fi
	REMOVE[${#REMOVE[@]}]=$SESSION/state/commit.$COMMIT.$WRITER
	COMMIT=$n WRITER=$PROCESS_ID
	for i in "${NEW_RECORDS[@]}" "${NEW_MOVES[@]}"; do finish "$i"; done
	NEW_RECORDS=() NEW_MOVES=()
	[ ${#REMOVE[@]} -lt 200 ] || { remove "${REMOVE[@]}" && REMOVE=(); }
}

add_record() { # TYPE WORDS…: shown after the next commit
	((RECORDS += 1))
	NEW_RECORDS[${#NEW_RECORDS[@]}]="record $RECORDS $1 $NOW ${*:2}"
}

add_move() { NEW_MOVES[${#NEW_MOVES[@]}]="move ${1#"$SESSION/"} $2"; } # FROM TO, relative to the session's folder

new_temp() { # -> NEW_TEMP: a name that no other file has
	((TEMP_COUNT += 1))
	NEW_TEMP=$TMP.$TEMP_COUNT
}

report() { # CAUSE LABEL: something that was not genuine. Told once for each; the latest causes are remembered
	case " ${REPORTED//,/ } " in *" $1:$2 "*) return ;; esac
	REPORTED="$REPORTED,$1:$2"
	[ ${#REPORTED} -le 2000 ] || REPORTED=-,${REPORTED#*,*,*,*,*,*,*,*,*,}
	add_record tampered "$2" "$1"
}

raise() { [ "${!1}" -ge "$2" ] || (($1 = $2)); } # VARIABLE NUMBER: to at least that

die_disk() { die "can't write in $SESSION" "is the disk full or read-only? Make room and call again; nothing is lost or half-done"; }

die_left() { die "this session has left the channel" "what was said: $CALL log. A new one: $CALL create $BRIDGE"; }

# ---- one process polls; locks only save work ----

lock_poll() { # SECONDS. Status 1: another process polls
	local owner until pid
	read_file "$SESSION/poll.lock"
	owner=${BYTES[0]%% *} until=${BYTES[0]#* }
	pid=${owner#*-}
	pid=${pid%%-*}
	if [ "$owner" != "$PROCESS_ID" ] && is_decimal "$pid" && is_decimal "$until"; then
		((until < TICKS || until > TICKS + 90)) || ! is_process "$pid" || return
	fi
	write_file "$SESSION/poll.lock" "$PROCESS_ID $((TICKS + $1))"
}

unlock_poll() {
	read_file "$SESSION/poll.lock"
	[ "${BYTES[0]%% *}" != "$PROCESS_ID" ] || write_file "$SESSION/poll.lock" ''
}
