# ---- requests to the bridge, and what its answers mean ----

# Status 0: LAST, the words of the last line of the answer, which starts with WORD. Status 1: CODE, and WHY in our words.
request() { # WORD METHOD PATH [BODY [CREDENTIAL [SECONDS]]]
	local line
	CODE=unreachable RETRY='' FIX=''
	http_request "$2" "$3" "${5:-$TOKEN}" "${4:-}" "${6:-15}"
	PROXY_STATUS=${STATUS:3} STATUS=${STATUS:0:3}
	[[ $HEAD =~ $'\n'[Rr]etry-[Aa]fter:\ ([0-9]{1,4})[$'\r\n'] ]] && ((10#${BASH_REMATCH[1]} <= 3600)) && RETRY=$((10#${BASH_REMATCH[1]}))
	line=${RESPONSE:0:60}
	case $CURL_EXIT:$STATUS in
		0:2??)
			take_answer "$1" && return
			CODE=unreachable
			;;
		0:*)
			CODE=''
			[[ $line =~ ^error\ ([a-z_]{1,40})\  ]] && CODE=${BASH_REMATCH[1]}
			describe_code
			;;
		*) describe_curl ;;
	esac
	ADVICE=${FIX:+What helps: $FIX}
	ADVICE=${ADVICE:-If it lasts, tell your user}
	return 1
}

request_status() { request cursor GET "?participant_id=$ID&epoch=$EPOCH"; } # -> LINES: who is there

take_answer() { # WORD -> LINES of RESPONSE; LAST, words of the last one. Status 1: it starts with another
	CODE='' WHY="the answer of $BRIDGE was cut off, or is none of a bridge"
	split_lines "$RESPONSE"
	LAST=(${LINES[${#LINES[@]} - 1]:-})
	[ "${LAST[0]:-}" = "$1" ]
}

describe_code() { # CODE STATUS -> WHY
	case $CODE in
		bad_request | nonce_reused | unsupported_media_type | not_json) WHY="the bridge takes this message for malformed ($CODE)" ;;
		too_large) WHY="this is larger than the bridge allows" ;;
		too_many_requests) WHY="the bridge limits how often this address may ask" ;;
		channel_full) WHY="the channel's memory is full until somebody reads" ;;
		bridge_full) WHY="the bridge has no room for more" ;;
		stopping) WHY="the bridge is stopping" ;;
		participants_full) WHY="the channel has as many participants as the bridge allows" ;;
		name_taken) WHY="the name $NAME is taken in this channel" ;;
		not_invited) WHY="this bridge opens channels only for those who have its create secret: ask your user for it" ;;
		no_channel | no_participant | other_epoch) WHY="the bridge has lost the channel" ;;
		no_recipient) WHY="its recipient is not in the channel" ;;
		not_found) WHY="no bridge is at $BRIDGE: the path is wrong" ;;
		bad_token | wrong_key | no_token) WHY="the bridge no longer knows this session" ;;
		'')
			WHY="$BRIDGE answered with status $STATUS: it is no agentalk bridge, or a proxy before it is in trouble"
			describe_network
			;;
		*) WHY="the bridge answered with an error that this client does not know ($STATUS)" ;;
	esac
	case $STATUS:$CODE in 50[234]:) WHY="a proxy before $BRIDGE says that the bridge does not answer ($STATUS); it may be restarting" ;; esac
}

describe_curl() { # CURL_EXIT -> WHY
	case $CURL_EXIT in
		1) WHY="this curl can't speak ${BRIDGE%%:*}" ;;
		5) WHY="the proxy's name can't be found" ;;
		6) WHY="the name of $BRIDGE can't be found: mistyped, or no network" ;;
		7) WHY="$BRIDGE takes no connection: the bridge is down, or the network is closed" ;;
		18 | 52 | 55 | 56) WHY="the connection to $BRIDGE broke" ;;
		28) WHY="$BRIDGE did not answer in time" ;;
		35) WHY="no TLS with $BRIDGE, which perhaps has none" ;;
		60) WHY="the certificate of $BRIDGE is not trusted: a private authority is passed with --cacert FILE. Or the date of this machine is wrong" ;;
		77) WHY="curl can't read the certificates to trust: ${CACERT:-install ca-certificates}" ;;
		23 | 26 | 27) WHY="curl can't read or write in $SESSION: perhaps the disk is full, or ulimit -n too low" ;;
		12[4-9] | 1[3-9]?) WHY="curl crashed, can't run or was ended ($CURL_EXIT): one from snap can't read or write in $SESSION" ;;
		*) WHY="curl ended with $CURL_EXIT (its manual says what that is)" ;;
	esac
	case $CURL_EXIT:$RUN_curl in
		2[367]:*/snap/bin/*) WHY="curl from snap can't read or write in $SESSION" FIX="install curl as a package (apt install curl) and remove the one from snap" ;;
		5:* | 6:* | 7:* | 28:* | 35:* | 56:*) describe_network ;;
	esac
}

describe_network() { # -> WHY, FIX: what the environment shows of the way to the bridge. CODE closed: trying on is of no use
	local host=${BRIDGE#*://} proxy=${http_proxy:-} status=$STATUS
	host=${host%%/*}
	[[ $host = *']' ]] || host=${host%:*}
	[[ $BRIDGE = http:* ]] || proxy=${https_proxy:-${HTTPS_PROXY:-}}
	proxy=${proxy:-${all_proxy:-${ALL_PROXY:-}}}
	[ "$PROXY_STATUS" = 000 ] || status=$PROXY_STATUS
	if [[ ${CODEX_SANDBOX_NETWORK_DISABLED:-} = 1 && $CURL_EXIT != 0 && ! -w ${CODEX_HOME:-$HOME/.codex} ]]; then
		CODE=closed WHY="Codex's sandbox has no network"
		FIX="run the same command outside the sandbox and propose a rule for ./agentalk, or your user starts: codex -s workspace-write -c sandbox_workspace_write.network_access=true"
	elif [[ ${SANDBOX_RUNTIME:-} = 1 && ($status = 403 || $CURL_EXIT = [567]) ]]; then
		CODE=closed WHY="Claude Code's sandbox does not let this command reach $host"
		FIX="ask your user to add $host to sandbox.network.allowedDomains in Claude Code's settings"
		! is_local_bridge || FIX="run the same command without the sandbox, which asks your user"
	elif [[ -n $proxy && ($status = 403 || $status = 407) ]]; then
		CODE=closed WHY="the proxy of this environment refuses $host ($status)"
		FIX="ask your user to allow $host in that proxy or sandbox; where no proxy is needed, to set no_proxy=$host"
	elif [ -n "$proxy" ]; then
		FIX="the proxy of this environment is in between; where none is needed, your user sets no_proxy=$host"
	elif [[ -e $HOME/.curlrc && $CURL_EXIT != 0 ]]; then
		FIX="the .curlrc of your home is not read here: a proxy in it must be in https_proxy, too, and a CA file is passed with --cacert"
	elif [[ -n $NEW_SESSION && $CURL_EXIT = 7 ]] && is_local_bridge; then
		port_of_bridge
		FIX="$BRIDGE is this machine alone: if the bridge runs elsewhere, your user opens there: ssh -R $PORT:127.0.0.1:$PORT THIS_MACHINE"
	fi
}

port_of_bridge() { # -> PORT
	PORT=${BRIDGE##*:}
	is_decimal "$PORT" || PORT=80
}

is_local_bridge() { [[ $BRIDGE =~ ^https?://(127\.|localhost|\[::1\]) ]]; }

# ---- sealing: a number is one message for ever. What is in outbox/ is sent until the bridge has it, as the same bytes ----

sent_headers() { # PEER -> HEADERS_TEXT: sent and received
	local first=${P_FROM[$1]}
	[ "$first" -ge "$OLDEST_SEQ" ] || first=$OLDEST_SEQ
	HEADERS_TEXT="sent: $first $BROADCASTS ${P_SEQ[$1]}"$'\n'"received: ${P_SHOWN_B[$1]} ${P_SHOWN_D[$1]} $((P_SHOWN_LOST[$1] + P_D_LOST[$1]))"$'\n'
}

seen_header() { # -> HEADERS_TEXT: what the agent had been shown; the 64 whose content was shown last
	local i n next rows=''
	HEADERS_TEXT=''
	for ((n = 0; n < 64; n++)); do
		next=-1
		for i in $ROWS; do
			[[ $rows != *" $i "* && ${P_SHOWN_MARK[i]} -gt 0 ]] || continue
			[[ $next -ge 0 && ${P_LAST_SHOWN[i]} -le ${P_LAST_SHOWN[next]} ]] || next=$i
		done
		[ "$next" -ge 0 ] || break
		rows+=" $next "
		HEADERS_TEXT+=",${P_SID[next]:0:16} ${P_SHOWN_MARK[next]} ${P_SHOWN_LOST[next]}"
		is_present "$next" || HEADERS_TEXT+=" left"
	done
	HEADERS_TEXT=${HEADERS_TEXT/#,/seen: }${HEADERS_TEXT:+$'\n'}
}

seal_message() { # * or PEER, HEADERS, and BODY -> REQUEST. Status 1: no key
	local to='*' key=room signature=''
	set -- "$1" "$2${OWN_REACH:+reach: $OWN_REACH$'\n'}"
	if [ "$1" != '*' ]; then
		direct_key_of "$1" || return
		to=${P_ID[$1]} key=$KEY_NAME
	fi
	set_aad "$ID" "$to" message
	if [ "$to" = '*' ]; then
		write_signed "$AAD"$'\n'"$SID"$'\n\n'"$2"$'\n'
		ecdsa_sign "$SESSION/keys/sign-$SID"
		is_base64 "$SIGNATURE" || die "openssl can't sign here, or was ended" "call again; nothing was sent"
		signature="signature: $SIGNATURE"$'\n'
	fi
	seal "$key" "$AAD" "$2$signature"
	REQUEST="{\"to\":\"$to\",\"participant_id\":\"$ID\",\"nonce\":\"$NONCE\",\"tag\":\"$TAG\",\"ciphertext\":\"$CIPHERTEXT\"}"
}

queue_message() { # * or PEER, KIND, HEADERS, NAME; BODY; LOGGED: the words for the log, if not BODY -> N
	local to='*' headers body=("${BODY[@]}")
	[ "$1" = '*' ] || to=${P_SID[$1]}
	ask_fetched
	while :; do
		check_copy
		SEQ=$((BROADCASTS + 1))
		if [ "$to" != '*' ]; then
			find_peer SID "$to" || die "$4 has left" "tell your user"
			set -- "$PEER" "${@:2}" # its row may be another one now
			SEQ=$((P_SEQ[PEER] + 1))
		fi
		if [ "$1" = '*' ]; then BROADCASTS=$SEQ; else P_SEQ[$1]=$SEQ; fi
		seen_header
		headers="kind: $2"$'\n'"seq: $SEQ"$'\n'"time: ${NOW}000"$'\n'$HEADERS_TEXT
		HEADERS_TEXT=''
		[ "$1" = '*' ] || sent_headers "$1"
		BODY=("${body[@]}")
		seal_message "$1" "$headers$HEADERS_TEXT$3" || die "the key of $4 is wrong" "tell your user; the others are not concerned"
		[ "$LOGGED" = - ] || BODY=("$LOGGED")
		((OUT += 1, OUT_BYTES += ${#REQUEST}))
		N=$OUT
		write_body_later "outbox/$N" "$to $SEQ $NOW $RECORDS $4 ${#REQUEST}"$'\n'"$REQUEST"$'\n'
		[ "$2" != file ] || write_later "${SENT_FOLDER#"$SESSION/"}/done" "$N"
		note_unacked
		! commit_state || break
	done
	drop_outbox
}

note_unacked() { # a session that had all has now something to confirm
	local i
	for i in $ROWS; do
		[[ ${P_UNACKED_SINCE[i]} != 0 ]] || ((P_ACK_B[i] >= BROADCASTS && P_ACK_D[i] >= P_SEQ[i])) || P_UNACKED_SINCE[i]=$TICKS
	done
}

drop_outbox() { # beyond 64 MiB the oldest are no longer repeated: their words stay
	while [ "$OUT_BYTES" -gt 67108864 ] && [ "$OLDEST" -lt "$SENT" ]; do
		((OLDEST += 1))
		if read_outbox "$OLDEST"; then
			((OUT_BYTES -= OUT_LENGTH))
			[ "$OUT_TO" != '*' ] || OLDEST_SEQ=$((OUT_SEQ + 1))
			BODY=("${BYTES[@]}")
			write_body_later "outbox/$OLDEST" "$OUT_TO $OUT_SEQ $OUT_TIME $OUT_RECORDS $OUT_NAME 0"$'\n\n'
		fi
		commit_state || :
	done
}

read_outbox_line() { # N -> OUT_TO, OUT_SEQ, OUT_TIME, OUT_RECORDS, OUT_NAME, OUT_LENGTH. Status 1: it is not there
	local line
	read_line "$SESSION/outbox/$1" || return
	line=($LINE)
	OUT_TO=${line[0]} OUT_SEQ=${line[1]} OUT_TIME=${line[2]} OUT_RECORDS=${line[3]} OUT_NAME=${line[4]} OUT_LENGTH=${line[5]}
}

read_outbox() { # N -> the same, and OUT_REQUEST; BYTES: the words
	read_outbox_line "$1" && read_file "$SESSION/outbox/$1" || return
	OUT_REQUEST=${BYTES[0]:${#LINE}+1:OUT_LENGTH}
	BYTES[0]=${BYTES[0]:${#LINE}+2+OUT_LENGTH}
}

# ---- sending: in order, and again where somebody lacks it ----

post() { # N -> HEARERS. Status 1: CODE, WHY
	HEARERS=()
	read_outbox "$1" && [ -n "$OUT_REQUEST" ] || return 0 # it is too old to be repeated
	request sent POST "/send?epoch=$EPOCH" "$OUT_REQUEST" || return
	HEARERS=("${LINES[@]}")
}

is_owed() { # N: does somebody in the channel lack it, or has nobody confirmed it?
	local i lacks='' confirmed=''
	read_outbox_line "$1" || return
	for i in $ROWS; do
		case $OUT_TO in
			'*')
				[[ ${P_HAS_B[i]} -lt $OUT_SEQ || ${P_FROM[i]} -gt $OUT_SEQ ]] || confirmed=yes
				[[ ${P_FROM[i]} -gt $OUT_SEQ || ${P_HAS_B[i]} -ge $OUT_SEQ ]] || ! is_present "$i" || lacks=yes
				;;
			"${P_SID[i]}") [[ ${P_HAS_D[i]} -lt $OUT_SEQ ]] || confirmed=yes ;;
		esac
	done
	[[ $lacks || -z $confirmed ]]
}

rewind() { # COUNT BROADCAST [PEER]: so many that are above BROADCAST, or direct to PEER (else anybody) and not confirmed, go out again
	local n count=$1 first=$((OUT + 1))
	for ((n = OUT; n > OLDEST && count > 0; n--)); do
		read_outbox_line "$n" || return
		if [ "$OUT_TO" = '*' ]; then
			[ "$OUT_SEQ" -gt "$2" ] || continue
		else
			[ -z "${3:-}" ] || [ "$OUT_TO" = "${P_SID[$3]}" ] || continue
			find_peer SID "$OUT_TO" && [ "$OUT_SEQ" -gt "${P_HAS_D[PEER]}" ] || continue
		fi
		((count -= 1, 1))
		first=$n
	done
	[ "$first" -gt "$SENT" ] || SENT=$((first - 1))
}

rewind_all() { # in a new epoch: what nobody has confirmed, or somebody in the channel is owed
	local i count=0 low=$BROADCASTS most=0 has
	for i in $ROWS; do
		((P_HAS_B[i] < P_FROM[i])) || ((most = P_HAS_B[i] > most ? P_HAS_B[i] : most)) # who came later confirms nothing before
		has=$((P_HAS_B[i] >= P_FROM[i] ? P_HAS_B[i] : P_FROM[i] - 1))
		! is_present "$i" || ((low = has < low ? has : low))
		((count += P_SEQ[i] - P_HAS_D[i], 1))
	done
	((low = most < low ? most : low))
	rewind $((count + BROADCASTS - low)) "$low"
}

send_queued() { # N SECONDS: the outbox up to N. Status 1: not in that time, or BLOCKED: refused for good
	local end=$((TICKS + $2)) tries=0 n pause passed=''
	BLOCKED=''
	send_controls
	while [ "$SENT" -lt "$1" ]; do
		n=$((SENT + 1)) ABSENT=''
		if ! is_owed "$n"; then
			SENT=$n passed=yes
			continue
		fi
		[ "$TICKS" -le "$end" ] || return
		if ! post "$n"; then
			case $CODE:$OUT_TO in
				no_recipient:[!*]*) ABSENT=yes ;;
				bad_request:* | too_large:* | nonce_reused:*)
					BLOCKED=yes
					return 1
					;;
				closed:*) return 1 ;;
				*)
					pause=${RETRY:-$((tries < 5 ? tries : 5))}
					((tries += 1))
					if ! rejoin; then
						((TICKS + pause <= end)) || return
						sleep_seconds "$pause"
					fi
					read_clock
					continue
					;;
			esac
		fi
		tries=0 passed=''
		read_clock
		while [ "$SENT" -eq $((n - 1)) ]; do # or it was set back meanwhile
			SENT=$n
			! commit_state || break
		done
		[ -z "$ABSENT" ] || ABSENTEES+=" $n "
	done
	[ -z "$passed" ] || commit_state || :
}

repeat_from() { # PEER: what it lacks goes out again; not for the same state twice in a minute
	local peer=$1 has=${P_HAS_B[$1]} state="${P_HAS_B[$1]}:${P_HAS_D[$1]}:${EPOCH:0:8}" before=$SENT count
	[[ ${P_REPEATED[peer]} = "$state:"* && $((TICKS - ${P_REPEATED[peer]##*:})) -lt $MISSING_SECONDS ]] && return
	((has = has >= P_FROM[peer] ? has : P_FROM[peer] - 1))
	count=$((BROADCASTS - has + P_SEQ[peer] - P_HAS_D[peer]))
	[ "$count" -gt 0 ] || return 0
	rewind "$count" "$has" "$peer"
	PEER=$peer
	[ "$SENT" -eq "$before" ] || P_REPEATED[peer]="$state:$TICKS"
}

send_control() { # PEER KIND [BODY]. Status 1: it was not sent, which does no harm
	local stored=''
	[[ ${P_SHOWN_B[$1]} -ge ${P_B[$1]} && ${P_SHOWN_D[$1]} -ge ${P_D[$1]} ]] || stored="stored: ${P_B[$1]} ${P_D[$1]}"$'\n'
	BODY=("${3:-}")
	sent_headers "$1"
	seal_message "$1" "kind: $2"$'\n'"time: ${NOW}000"$'\n'"$HEADERS_TEXT$stored" || return
	request sent POST "/send?epoch=$EPOCH" "$REQUEST"
}

send_controls() { # what is due, at most one of each kind in ten seconds to each session
	local i kind at due changed=''
	for i in $ROWS; do
		is_present "$i" || continue
		for kind in sync ack; do
			at=${P_SYNC_AT[i]} due=${P_DUE[i]/$kind/}
			[ "$kind" = sync ] || at=${P_ACK_AT[i]}
			[[ $due != "${P_DUE[i]}" ]] && ! is_recent "$at" || continue
			send_control "$i" "$kind" || [ "$CODE" = no_recipient ] || break 2
			if [ "$kind" = sync ]; then P_SYNC_AT[i]=$TICKS; else P_ACK_AT[i]=$TICKS; fi
			due=${due//+/}
			P_DUE[i]=${due:--} changed=yes
		done
	done
	[ -z "$changed" ] || commit_state || :
}

# ---- the channel: join it, and come back to it ----

open_channel() { # -> the channel exists: FOUND (created, found). Status 1: CODE, WHY
	request channel PUT '' '' "$ACCESS" || return
	FOUND=${LAST[2]:-}
	is_decimal "${LAST[3]:-}" && is_decimal "${LAST[7]:-0}" || return
	LIMIT=${LAST[3]} BLOB_LIMIT=${LAST[7]:-0}
	[ "$HAS_SECRET" != yes ] || TICKET='' # an operator's secret is never passed on: the link gets the channel's ticket
	HAS_SECRET=''
	is_hex "${LAST[8]:-}" 32 || return 0
	TICKET=${LAST[8]}
}

enter_channel() { # join it -> EPOCH, CURSOR, JOIN_INDEX; the participants as rows. Status 1: CODE, WHY
	open_channel || return
	read_file "$SESSION/keys/card-$SID" || die_left
	request cursor POST /join "${BYTES[0]}" "$ACCESS" || return
	is_decimal "${LAST[1]:-}" && is_hex "${LAST[2]:-}" 32 && is_decimal "${LAST[4]:-}" || return
	[ "$FIRST_EPOCH" != 0 ] || FIRST_EPOCH=${LAST[2]}
	[ "$EPOCH" = "${LAST[2]}" ] || JOIN_INDEX=${LAST[4]} # who comes back has not missed what came before that
	EPOCH=${LAST[2]} CURSOR=${LAST[1]}
	read_participants
}

read_participants() { # LINES, an answer: who is there, each a row; who is not there is gone
	local line words i listed=' ' rows=("${LINES[@]}") start=$TICKS
	for line in "${rows[@]}"; do
		read_clock
		((TICKS - start < 15)) || break # a bridge may invent many
		words=($line)
		[ "${words[0]}" = participant ] && is_hex "${words[1]:-}" 32 && [ "${words[1]}" != "$ID" ] || continue
		read_card "${words[1]}" "${words[5]:-}" "${words[6]:-}" "${words[7]:-}" || continue
		is_present "$PEER" && [ "${P_STATE[PEER]}" != new ] && [ "${P_STATE[PEER]}" != lost ] || owe "$PEER" sync
		set_listed "$PEER"
		listed+="${P_SID[PEER]} "
	done
	for i in $ROWS; do
		[[ $listed = *" ${P_SID[i]} "* || ${P_STATE[i]} = lost ]] || ! is_present "$i" || P_STATE[i]=gone
	done
}

rejoin() { # after CODE: the same channel, name and token again. Status 1: that would not help
	local before=$EPOCH i
	case $CODE in
		no_channel | no_participant | other_epoch) ;;
		bad_token | wrong_key | name_taken) die "$WHY" "tell your user. A new session: $CALL create $BRIDGE" ;;
		*) return 1 ;;
	esac
	while read_state && [ "$EPOCH" = "$before" ]; do
		for i in $ROWS; do
			P_B_SINCE[i]=0 P_D_SINCE[i]=0 P_SYNC_AT[i]=0 P_ACK_AT[i]=0
			! is_present "$i" || P_STATE[i]=lost
		done
		enter_channel || return
		if [ "$EPOCH" != "$before" ]; then
			EPOCH_AT=$TICKS
			[ "$before" = "$NULLS" ] || add_presence resumed -
			rewind_all
		fi
		! commit_state || break
	done
	send_controls
}
