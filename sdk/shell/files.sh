# ---- files: sealed pieces of 1 MiB at the bridge, named by their SHA-256 (docs/protocol.md, Files) ----

PIECE_BYTES=1048576
MAX_FETCHED=419430400 # bytes of files that are fetched without being asked for

encode_name() { # PATH -> ENCODED: its last part, safe, at most 120 bytes with its ending, percent-encoded
	local name=${1##*/} ending='' char i
	sanitize "$name"
	name=${CLEAN//$REPLACEMENT/_}
	name=${name//[$'\n\t\\']/_}
	if [ ${#name} -gt 120 ]; then
		case $name in ?*.*) ending=.${name##*.} ;; esac
		[ ${#ending} -le 32 ] || ending=''
		name=${name:0:120-${#ending}}
		sanitize "$name" # a character may have been cut
		name=${CLEAN%%"$REPLACEMENT"*}$ending
	fi
	case $name in . | .. | '') name='file' ;; esac
	ENCODED=''
	for ((i = 0; i < ${#name}; i++)); do
		char=${name:i:1}
		case $char in
			[A-Za-z0-9._-]) ;;
			*)
				printf -v char %02X "'$char"
				char=%${char: -2}
				;;
		esac
		ENCODED+=$char
	done
}

decode_name() { # ENCODED -> FILE_NAME. Status 1: it is malformed, or not safe in a path and on a screen
	local rest=$1 char
	[[ ${#rest} -le 360 && $rest =~ ^([A-Za-z0-9._-]|%[0-9A-F]{2})+$ ]] || return
	FILE_NAME=''
	while [[ $rest = *%* ]]; do
		FILE_NAME+=${rest%%%*} rest=${rest#*%}
		[ "${rest:0:2}" != 00 ] || return
		printf -v char %b "\\x${rest:0:2}"
		FILE_NAME+=$char rest=${rest:2}
	done
	FILE_NAME+=$rest
	sanitize "$FILE_NAME"
	[[ -z $IS_CHANGED && ${#FILE_NAME} -le 120 && $FILE_NAME != *[$'\n\t\\/']* ]] || return
	case $FILE_NAME in . | ..) return 1 ;; esac
}

check_path() { # PATH -> SIZE; each fault has its own words
	[ -e "$1" ] || die "there is no such file" "check the path; it is taken from the folder that you are in"
	[ ! -d "$1" ] || die "that is a folder" "pack it into one file first, with tar or zip"
	[ -f "$1" ] || die "that is a pipe or a device" "write its contents to a file first"
	[ -r "$1" ] || die "that file can't be read by this user" "check its permissions"
	file_size "$1" && is_decimal "$SIZE" || die "that file can't be read" "check the disk"
}

check_file() { # PATH -> SIZE
	[ -n "$1" ] || die "which file?" "$CALL send_file PATH [NAME]"
	[ "$1" != - ] || die "send_file takes a path, not standard input" "write it to a file first, or say it: $CALL say --file PATH"
	check_path "$1"
	[ "$BLOB_LIMIT" -gt 0 ] || die "this bridge takes no files" "say what matters as text"
	((SIZE <= 104857600 && SIZE <= BLOB_LIMIT)) ||
		die "a file has at most $((BLOB_LIMIT < 104857600 ? BLOB_LIMIT / 1048576 : 100)) MB here, this one has $(((SIZE + 1048575) / 1048576))" "split or compress it"
}

encrypt_file() { # PATH -> SENT_FOLDER, SIZE. The same file again goes on where it was cut short
	local source pieces facts
	stat_files %Z %c "$1" # its time of change
	source="$FACTS $SIZE $1"
	list_files "$SESSION/sent/"
	for facts in "${FILES[@]}"; do
		read_file "$facts/source" && [[ ${BYTES[0]} = "$source" && ! -e $facts/done ]] || continue
		SENT_FOLDER=$facts
		list_files "$facts/piece-"
		read_file "$facts/body"
		hash_pieces "agentalk/1 file ${BYTES[0]%%$'\n'*}" "${FILES[@]}"
		return
	done
	drop_sent_files
	random_hex 32
	SENT_FOLDER=$SESSION/sent/$NOW-${HEX:0:8}
	random_hex 32
	facts=$HEX
	make_folder "$SENT_FOLDER" && split_encrypted "$1" "agentalk/1 file $facts" "$SENT_FOLDER/piece-" || die_disk
	list_files "$SENT_FOLDER/piece-"
	pieces=("${FILES[@]}")
	SIZE=0
	HASHES=()
	hash_pieces "agentalk/1 file $facts" "${pieces[@]}"
	if [ ${#pieces[@]} -gt 0 ]; then
		hash_files "${pieces[@]}" || die_disk
		file_size "${pieces[${#pieces[@]} - 1]}"
		SIZE=$(((${#pieces[@]} - 1) * PIECE_BYTES + SIZE))
	fi
	printf -v source '%s\n' "$facts" "${HASHES[@]}"
	write_file "$SENT_FOLDER/body" "$source"
	write_file "$SENT_FOLDER/source" "$FACTS $SIZE $1"
}

drop_sent_files() { # beyond 400 MiB the oldest goes
	local i total=0 words
	list_files "$SESSION/sent/"
	for ((i = ${#FILES[@]} - 1; i >= 0; i--)); do
		read_file "${FILES[i]}/source" && words=(${BYTES[0]}) && ((total += words[1] + 4096))
		((total <= 314572800)) || remove "${FILES[i]}"
	done
}

upload() { # SENT_FOLDER HASH…: what the bridge lacks of these. Status 1: CODE, WHY
	local folder=$1 hash i n pieces hashes todo=() want=" ${*:2} "
	list_files "$folder/piece-"
	pieces=("${FILES[@]}")
	read_file "$folder/body" || return 0
	split_lines "${BYTES[0]}"
	hashes=("${LINES[@]:1}")
	for ((i = 0; i < ${#pieces[@]}; i += 16)); do
		todo=()
		for ((n = i; n < i + 16 && n < ${#pieces[@]}; n++)); do
			hash=${hashes[n]}
			[[ $# -gt 1 && $want != *" $hash "* ]] || todo+=("${pieces[n]}" "$hash")
		done
		[ ${#todo[@]} -gt 0 ] || continue
		print_progress "$i of ${#pieces[@]} MiB"
		upload_some "${todo[@]}" || return
	done
	print_progress ''
}

upload_some() { # FILE HASH…: in a first try all, else those that are not there
	local tries i todo=("$@") next
	for tries in 1 2 3; do
		transfer_pieces put "${todo[@]}"
		next=()
		for ((i = 0; 2 * i < ${#todo[@]}; i++)); do
			case ${STATUSES[i]:-000} in 200 | 201) ;; *) next+=("${todo[2 * i]}" "${todo[2 * i + 1]}") ;; esac
		done
		[ ${#next[@]} -gt 0 ] || return 0
		todo=("${next[@]}")
		STATUS=${STATUSES[${#STATUSES[@]} - 1]:-000} CODE=''
		case $STATUS in
			404 | 409 | 410) request_status || rejoin || return ;;
			413 | 503) CODE=bridge_full ;;
			429) CODE=too_many_requests ;;
		esac
		sleep_seconds "$tries"
	done
	describe_code
	[ "$STATUS" != 000 ] || WHY="the connection to $BRIDGE broke"
	return 1
}

serve_wants() { # pieces that somebody lacks, once in ten seconds, of files that were sent to all or to it
	local want sid folder hash hashes last
	for want in $WANTS; do
		hashes=${want#*:} sid=${want%%:*}
		list_files "$SESSION/sent/"
		for folder in "${FILES[@]}"; do
			last=0
			read_count "$folder/done" && read_outbox "$COUNT" && [[ $OUT_TO = '*' || $OUT_TO = "$sid" ]] || continue
			! read_count "$folder/served" || last=$COUNT
			! is_recent "$last" && read_file "$folder/body" || continue
			last=()
			for hash in ${hashes//,/ }; do
				is_hex "$hash" 64 && [[ ${#last[@]} -lt 32 && ${BYTES[0]} = *$'\n'"$hash"* ]] && last+=("$hash")
			done
			[ ${#last[@]} -gt 0 ] || continue
			write_file "$folder/served" "$TICKS"
			upload "$folder" "${last[@]}" || :
		done
	done
	WANTS=''
}

split_hashes() { # BODY -> LINES, each 64 hex and ended. Status 1: it has others
	local hash ends=${BODY[0]//[!$'\n']/}
	split_lines "${BODY[0]}"
	[[ ${#BODY[@]} -eq 1 && ${#LINES[@]} -eq ${#ends} && ${BODY[0]} = *$'\n' ]] || return
	for hash in "${LINES[@]}"; do is_hex "$hash" 64 || return; done
}

check_file_body() { # BODY: a key, and as many hashes as MSG_size has pieces, none twice
	local hash seen=' '
	split_hashes && [ ${#LINES[@]} -eq $(((MSG_size + PIECE_BYTES - 1) / PIECE_BYTES + 1)) ] || return
	for hash in "${LINES[@]:1}"; do
		[[ $seen != *" $hash "* ]] || return
		seen+="$hash "
	done
}

check_want() { split_hashes && [ ${#LINES[@]} -le 32 ]; }

on_file() { # LABEL PLACE SCOPE: the body is the key and the pieces' hashes
	if ! check_file_body; then
		add_record badfile "$1" "$2" "$MESSAGES"
		return
	fi
	local ask=ask # beyond these bounds only when the user asks: nobody fills the disk with files
	((MSG_size > 16777216 || FETCHED + MSG_size > MAX_FETCHED)) || ask=- FETCHED=$((FETCHED + MSG_size))
	[ "$ask" = - ] || { MARKS=${MARKS#-},ask && MARKS=${MARKS#,}; }
	write_body_later "files/$MESSAGES" "$MSG_size $MSG_sha256 $1 ${P_SID[PEER]} $MSG_name $ask"$'\n'
	add_record coming "$1" "$2" "$3" "$MESSAGES" "$MSG_size" "$MSG_time" "$MARKS" "$MSG_name"
}

fetch_files() { # for about three seconds -> HAS_FILES: more may come at once
	local file name start=$TICKS stale=()
	HAS_FILES=''
	list_files "$SESSION/files/"
	for file in "${FILES[@]}"; do
		name=${file##*/}
		if [[ $name = *-* ]]; then
			[ -e "${file%-*}" ] || stale+=("$file") # a piece of what is complete
		elif ((TICKS - start < 3)); then
			read_late "$file"
			is_recent "$ASKED" || fetch_file "$name" || :
			read_clock
		fi
	done
	remove "${stale[@]}"
}

read_late() { # FILE -> LATE_SINCE, ASKED: when its sender was asked for pieces; IS_TOLD
	LATE_SINCE=$TICKS ASKED=0 IS_TOLD=''
	read_file "$1-late" && [[ ${BYTES[0]} =~ ^$NUMBER\ $NUMBER\ (told)?$ ]] || return
	LATE_SINCE=${BASH_REMATCH[1]} ASKED=${BASH_REMATCH[2]} IS_TOLD=${BASH_REMATCH[3]}
}

fetch_file() { # N
	local facts key hashes i todo pieces=() size start=$TICKS most=1 file=$SESSION/files/$1
	read_file "$file" || return
	split_lines "${BYTES[0]}"
	facts=(${LINES[0]})
	key=${LINES[1]} hashes=("${LINES[@]:2}") size=${facts[0]}
	[[ ${facts[5]} != ask || -e $file-asked ]] || return 0
	while :; do
		todo=()
		read_file "$file-have"
		for ((i = 0; i < ${#hashes[@]}; i++)); do
			pieces[i]=$file-$i
			[[ " ${BYTES[0]}" = *" $i "* || ${#todo[@]} -ge $most ]] || todo+=("${pieces[i]}" "${hashes[i]}")
		done
		[ ${#todo[@]} -gt 0 ] || break
		print_progress "$i MiB to fetch"
		fetch_pieces "$1" "${facts[3]}" "${todo[@]}" || return
		read_clock
		((TICKS - start < 3)) || { HAS_FILES=yes && return; }
		((most = TICKS - start > 1 ? 1 : most < 16 ? 16 : 64)) # so that a slow bridge holds up nothing for long
	done
	join_pieces "agentalk/1 file $key" "$TMP.file" "${pieces[@]}" || die_disk
	decode_name "${facts[4]}"
	i=$TMP.$1-${facts[2]}-$FILE_NAME
	if ! { rename "$TMP.file" "$i" && rename "$i" "$TMP.file"; }; then # this file system refuses the name, as FAT does some
		facts[4]=${facts[4]//%??/_}
		[ ${#facts[4]} -le 60 ] || facts[4]=${facts[4]: -60}
		decode_name "${facts[4]}"
	fi
	while :; do
		[ -e "$file" ] || return 0 # another process was faster
		if [ "$SIZE:$HASH" = "$size:${facts[1]}" ]; then
			add_move "$TMP.file" "inbox/$1-${facts[2]}-$FILE_NAME"
			add_record file "${facts[2]}" - - "$1" "$size" "${facts[4]}"
		else
			add_record badfile "${facts[2]}" - "$1"
		fi
		add_move "$file" "tmp/$PROCESS_ID.done"
		! commit_state || break
	done
	REMOVE+=("${pieces[@]}" "$file-asked" "$file-late" "$file-have")
}

fetch_pieces() { # N SID, FILE HASH…: status 1: one lacks, which its sender is asked for
	local number=$1 sid=$2 i lacking='' files=() hashes=()
	shift 2
	transfer_pieces get "$@"
	read_clock
	for ((i = 0; $# > 0; i++)); do
		if [ "${STATUSES[i]:-}" = 200 ] && [ -e "$1" ]; then
			files+=("$1") hashes+=("$2")
		else
			lacking+="$2"$'\n'
		fi
		shift 2
	done
	[ ${#files[@]} -eq 0 ] || hash_files "${files[@]}" || die_disk
	for ((i = 0; i < ${#files[@]}; i++)); do
		if [ "${HASHES[i]}" = "${hashes[i]}" ]; then
			append_file "$SESSION/files/$number-have" "${files[i]##*-} " || die_disk
			REMOVE+=("$SESSION/files/$number-late")
		else
			lacking+="${hashes[i]}"$'\n'
		fi
	done
	[ -n "$lacking" ] || return 0
	want_pieces "$number" "$sid" "$lacking"
	return 1
}

want_pieces() { # N SID HASHES: at most once in ten seconds; after a minute the user is told
	local file=$SESSION/files/$1 label=somebody
	read_late "$file"
	! is_recent "$ASKED" || return 0
	if find_peer SID "$2"; then
		label=${P_LABEL[PEER]}
		! is_present "$PEER" || send_control "$PEER" want "$3" || :
	fi
	if [[ -z $IS_TOLD && $((TICKS - LATE_SINCE)) -ge $MISSING_SECONDS ]]; then
		add_record late-file "$label" - "$1"
		commit_state || :
		IS_TOLD=told
	fi
	write_file "$file-late" "$LATE_SINCE $TICKS $IS_TOLD"
}
