# ---- receive: from the bridge's answer to the log ----

# One poll of at most SECONDS, and the commit of what came. Status 1: CODE and MESSAGE.
receive() { # SECONDS
  local since epoch
  load
  since=$CURSOR epoch=$EPOCH
  WATCH=receive request GET "/channels/$CHANNEL/poll?participant_id=$ID&since=$since&wait=$1&epoch=$epoch" "$S/token" \
    $(($1 + 10)) && last_line cursor && is_decimal "$A1" && [ "$A1" -ge "$since" ] && [ "$A2" = "$epoch" ] || return 1
  while [ "$CURSOR $EPOCH" = "$since $epoch" ]; do
    CHANGED='' REMOVE=''
    take_in
    [ "$CURSOR$ADDED$CHANGED" != "$since" ] || return 0
    if commit; then
      [ -z "$REMOVE" ] || (cd "$S" && rm -f $REMOVE) # shellcheck disable=SC2086 # names of our own making
      pay
      return 0
    fi
    load
  done
}

take_in() { # $TMP/answer and our own words, into the state
  local word a b c d e f g
  add_said
  while read -r word a b c d e f g <&3; do
    case $word in
      cursor) break ;;
      gap) record gap - && ask_all && continue ;;
      message | join | leave | away | back)
        if is_decimal "$a" && is_decimal "$b" && is_hex "$c" 32 && [ "$a" -le "$A1" ] && [ "$c" != "$ID" ]; then
          if [ "$word" = message ]; then message "$a" "$c" "$d" "$e" "$f" "$g"; else presence "$word" "$a" "$c" "$d" "$e" "$f"; fi
          continue
        fi
        ;;
    esac
    tampered malformed-answer bridge
  done 3<"$TMP/answer"
  CURSOR=$A1
  holes
}

add_said() { # our own messages, each in its place
  local file
  while [ -e "$S/outbox/$((SAID + 1))" ]; do
    ((SAID += 1))
    for file in "$S/said/$SAID"-*; do [ ! -e "$file" ] || record said "${file##*-}" "${file##*/}"; done
  done
}

ask_all() {
  local i
  for ((i = 0; i < ${#P_ID[@]}; i++)); do [ "${P_STATE[i]}" = gone ] || signal "$i" seen ''; done
}

early() { [ "$EPOCH" = "$BORN_EPOCH" ] && [ "$1" -lt "$BORN" ]; } # INDEX: did it happen before we came?

# A participant presents itself -> PEER, a new row if its keys are new. Status 1: that is no card of its.
card() { # ID NONCE CIPHERTEXT TAG
  aad "$1" '*' card
  unseal "$ROOM" "$ROOM_H" "$AAD" "$2" "$3" "$4" && parse_frame && check_card "$1" || { tampered "card-$WHY" "${1:0:8}" && return 1; }
  for ((PEER = ${#P_ID[@]} - 1; PEER >= 0; PEER--)); do
    [ "${P_ID[PEER]}:${P_PUB[PEER]}:${P_SIGN[PEER]}" != "$1:$F_pub:$F_sign" ] || return 0
  done
  ! peer_with "$1" || record keys "$F_name"
  new_row "$1" "$F_name" "$F_kind" "$F_pub" "$F_sign"
}

check_card() { # ID
  WHY=missing-header && [ -n "$F_kind" ] && [ -n "$F_name" ] && [ -n "$F_pub" ] && [ -n "$F_sign" ] || return 1
  WHY=bad-name && is_name "$F_name" || return 1
  WHY=bad-value && { [ "$F_kind" = agent ] || [ "$F_kind" = human ]; } || return 1
  WHY=bad-key && is_public_key "$F_pub" && is_public_key "$F_sign" || return 1
  WHY=wrong-id && [ "$(participant_of "$KEY" "$F_name")" = "$1" ]
}

new_row() { # ID NAME KIND PUB SIGN -> PEER
  PEER=${#P_ID[@]}
  P_ID+=("$1") P_NAME+=("$2") P_KIND+=("$3") P_PUB+=("$4") P_SIGN+=("$5") P_STATE+=(new) P_PAIRED+=(-) P_STREAM+=(-)
  P_B+=(0) P_TOP_B+=(0) P_D+=(0) P_TOP_D+=(0) P_HOLE+=(0) P_HAS+=(0:0) P_OWED+=(-)
  # Whoever was there before us has said things that are not for us: its first message shows where ours start.
  if [ "$BORN" = 0 ]; then P_BASE+=(-); else P_BASE+=(0); fi
}

presence() { # WORD INDEX ID REST
  if [ "$1" = join ]; then
    card "$3" "$4" "$5" "$6" || return 0
    CHANGED=yes
    if early "$2"; then [ "${P_STATE[PEER]}" != new ] || P_STATE[PEER]=gone; return; fi
    case ${P_STATE[PEER]} in
      new | gone) record joined "${P_NAME[PEER]}" "${P_KIND[PEER]}" ;;
      lost) record back "${P_NAME[PEER]}" && signal "$PEER" seen '' ;;
    esac
    P_STATE[PEER]=here
    return
  fi
  early "$2" || ! peer_with "$3" || [ "${P_STATE[PEER]}" = gone ] && return
  case $1 in
    away) P_STATE[PEER]=away ;;
    back) P_STATE[PEER]=here ;;
    leave) P_STATE[PEER]=gone ;;
  esac
  record "$1" "${P_NAME[PEER]}" "$([ "$4" != expired ] || echo expired)"
}

message() { # INDEX FROM TO NONCE CIPHERTEXT TAG
  local to=all i name=${2:0:8} digest mark old late=-
  [ "$3" = '*' ] || to=me
  [ "$to" = all ] || [ "$3" = "$ID" ] || { tampered not-for-us bridge && return; }
  aad "$2" "$3" message
  WHY=unknown-sender
  for ((i = ${#P_ID[@]} - 1; i >= 0; i--)); do
    [ "${P_ID[i]}" = "$2" ] || continue
    name=${P_NAME[i]} PEER=$i
    ! opened "$i" "$to" "$4" "$5" "$6" || break
  done
  if [ "$i" -lt 0 ]; then # an earlier bearer of our name had it sealed for other keys, or its sender left before us
    early "$1" && { [ "$to" = me ] || [ "$WHY" = unknown-sender ]; } || tampered "$WHY" "$name"
    return
  fi
  own_row || { tampered too-many-streams "$name" && return; }
  CHANGED=yes mark=${P_B[PEER]}
  [ "$to" = all ] || mark=${P_D[PEER]}
  digest=$F_stream-$to-$F_seq\ $({ printf '%s\n' "$HEADERS" && body; } | sha256)
  if [ "$F_seq" -le "$mark" ]; then
    old=$({ cat "$S"/log/* && printf %s "$ADDED"; } | sed -n "s/^dig \(${digest% *} .*\)/\1/p")
    if [ -n "$old" ] || { [ "$to" = all ] && [ "$F_seq" -le "${P_BASE[PEER]}" ]; }; then
      [ "${old:-$digest}" = "$digest" ] || [ "$F_kind" = void ] || tampered two-with-one-number "$name"
      return
    fi
    late=late
  fi
  receipts "$to"
  # Before its turn: kept as it came, for `release`.
  if [ "$F_seq" -gt $((mark + 1)) ] || [ "$to:$((${F_after:-0} > P_B[PEER]))" = me:1 ] && [ "$late" = - ]; then
    [ "$F_seq" -le $((mark + 1000)) ] || { tampered number-too-high "$name" && return; }
    printf '%s\n' "$*" >"$S/held/${digest% *}" || disk_full
    [ "$to" = all ] || raise P_TOP_B "${F_after:-0}"
    if [ "$to" = all ]; then raise P_TOP_B "$F_seq"; else raise P_TOP_D "$F_seq"; fi
    return
  fi
  if [ "$to" = all ]; then raise P_B "$F_seq" && raise P_TOP_B "$F_seq"; else raise P_D "$F_seq" && raise P_TOP_D "$F_seq"; fi
  ADDED="${ADDED}dig $digest"$'\n' REMOVE="$REMOVE held/${digest% *}"
  act "$to" "$6" "$late"
  release "$PEER"
}

opened() { # PEER TO NONCE CIPHERTEXT TAG: does it come from these keys?
  if [ "$2" = me ]; then
    direct_key "$1" && unseal "$DIRECT" "$DIRECT_H" "$AAD" "$3" "$4" "$5" && parse_frame && check_message
  else
    unseal "$ROOM" "$ROOM_H" "$AAD" "$3" "$4" "$5" && parse_frame && check_message || return 1
    WHY=unsigned && [ -n "$SIGNATURE" ] || return 1
    WHY=bad-signature
    { printf '%s\n\n%s\n' "$AAD" "$HEADERS" && body; } | verify "${P_SIGN[$1]}" "$SIGNATURE"
  fi
}

own_row() { # PEER is the row of these keys -> PEER, the row of this stream
  local row=$PEER rows=0
  for ((PEER = ${#P_ID[@]} - 1; PEER >= 0; PEER--)); do
    [ "${P_PUB[PEER]}" = "${P_PUB[row]}" ] || continue
    [ "${P_STREAM[PEER]}" != "$F_stream" ] || return 0
    ((rows += 1))
  done
  PEER=$row
  if [ "${P_STREAM[row]}" != - ]; then
    [ "$rows" -lt 8 ] || return 1
    new_row "${P_ID[row]}" "${P_NAME[row]}" "${P_KIND[row]}" "${P_PUB[row]}" "${P_SIGN[row]}"
    P_STATE[PEER]=${P_STATE[row]} P_STATE[row]=gone
  fi
  P_STREAM[PEER]=$F_stream
  [ "${P_BASE[PEER]}" = - ] || return 0
  P_BASE[PEER]=${F_after:-$((F_seq - 1))}
  P_B[PEER]=${P_BASE[PEER]} P_TOP_B[PEER]=${P_BASE[PEER]}
}

raise() { (($1[PEER] >= $2)) || (($1[PEER] = $2)); } # ARRAY NUMBER: to at least that, for PEER

# What the sender says that it has of ours.
receipts() { # TO
  local stream b d has=${P_HAS[PEER]}
  while read -r stream b d; do
    [ "$stream" = "$STREAM" ] || [ "$F_kind:$stream" = seen:0000000000000000 ] || continue
    is_decimal "$b" && is_decimal "${d:-0}" || continue
    [ "$b" -le "${has%:*}" ] || has=$b:${has#*:}
    [ "${d:-0}" -le "${has#*:}" ] || has=${has%:*}:$d
    [ "$1:$F_kind" != me:seen ] || P_OWED[PEER]=$b:${d:-0}
  done < <(printf '%s\n' "${F_seen//,/$'\n'}")
  P_HAS[PEER]=$has
}

act() { # TO TAG LATE
  local answer file
  case $F_kind in
    text)
      ((MESSAGES += 1))
      file=$MESSAGES-${P_NAME[PEER]}-${2:0:8}.txt
      body >"$S/inbox/$file" || disk_full
      record msg "${P_NAME[PEER]}" "$1" "$MESSAGES" "$BODY_BYTES" "$3" "$file"
      ;;
    file) part "$@" ;;
    hello)
      [ -z "$F_challenge" ] || [ "${P_STATE[PEER]}" = gone ] ||
        signal "$PEER" welcome "challenge: $(challenge "$PEER")"$'\n'"answer: $F_challenge"$'\n'
      ;;
    welcome)
      [ "$1:$F_answer" = "me:$(challenge hello)" ] || return
      paired
      [ -z "$F_challenge" ] || signal "$PEER" ready "answer: $F_challenge"$'\n'
      ;;
    ready) [ "$1:$F_answer" != "me:$(challenge "$PEER")" ] || paired ;;
    bye)
      for answer in ${F_final//,/ }; do
        [ "${answer%:*}" != "$ID" ] || ! is_decimal "${answer#*:}" || raise P_TOP_D "${answer#*:}"
      done
      [ "${P_STATE[PEER]}" = gone ] || { P_STATE[PEER]=gone && record leave "${P_NAME[PEER]}"; }
      ;;
  esac
}

paired() { [ "${P_PAIRED[PEER]}" = yes ] || { P_PAIRED[PEER]=yes && record paired "${P_NAME[PEER]}"; }; }

challenge() { # PEER or `hello`: random to everybody else, and nothing to remember
  printf '%s %s' "$SEED" "$([ "$1" = hello ] && echo hello || echo "${P_PUB[$1]}")" | sha256 | cut -c1-32
}

release() { # PEER: what was held and is next in line
  local b d
  while :; do
    b=${P_B[$1]} d=${P_D[$1]}
    again "$1" "all-$((b + 1))"
    again "$1" "me-$((d + 1))"
    [ "$b:$d" != "${P_B[$1]}:${P_D[$1]}" ] || return 0
  done
}

again() { # PEER WHICH
  local a b c d e f
  [ ! -e "$S/held/${P_STREAM[$1]}-$2" ] || { read -r a b c d e f <"$S/held/${P_STREAM[$1]}-$2" && message "$a" "$b" "$c" "$d" "$e" "$f"; }
}

# A hole asks for what is missing, waits twenty seconds, and is then announced and passed over.
holes() {
  local i to mark top missed
  HOLES=''
  now
  for ((i = 0; i < ${#P_ID[@]}; i++)); do
    if [ "${P_B[i]}" -ge "${P_TOP_B[i]}" ] && [ "${P_D[i]}" -ge "${P_TOP_D[i]}" ]; then
      [ "${P_HOLE[i]}" = 0 ] || P_HOLE[i]=0 CHANGED=yes
    elif [ "${P_HOLE[i]}" = 0 ]; then
      P_HOLE[i]=$NOW CHANGED=yes HOLES=yes
      [ "${P_STATE[i]}" = gone ] || signal "$i" seen ''
    elif [ $((NOW - P_HOLE[i])) -lt 20 ]; then
      HOLES=yes
    else
      CHANGED=yes HOLES=yes missed=0
      for to in all me; do
        mark=${P_B[i]} top=${P_TOP_B[i]}
        [ "$to" = all ] || mark=${P_D[i]} top=${P_TOP_D[i]}
        while [ "$mark" -lt "$top" ] && [ ! -e "$S/held/${P_STREAM[i]}-$to-$((mark + 1))" ]; do ((mark += 1, missed += 1)); done
        if [ "$to" = all ]; then P_B[i]=$mark; else P_D[i]=$mark; fi
      done
      [ "$missed" -eq 0 ] || record missed "${P_NAME[i]}" "$missed"
      release "$i"
    fi
  done
}

pay() { # peers that asked again get what they lack; the debt stands in the log until then
  local i
  for ((i = 0; i < ${#P_ID[@]}; i++)); do
    [ "${P_OWED[i]}" != - ] || continue
    flush_all 5 && resend "$i" "${P_OWED[i]%:*}" "${P_OWED[i]#*:}" || continue
    P_OWED[i]=-
    commit || { load && return; }
  done
}

# ---- files, in parts of one message each ----

part() { # as act
  local i n=${F_part#*/} part=${F_part%/*} name=${F_name##*/} file
  is_decimal "$part" && is_decimal "$n" && [ "$part" -ge 1 ] && [ "$part" -le "$n" ] && [ "$n" -le 4096 ] &&
    [ -n "$F_sha256" ] || { tampered bad-part "${P_NAME[PEER]}" && return; }
  body >"$S/held/$F_sha256-$part" || disk_full
  for ((i = 1; i <= n; i++)); do [ -e "$S/held/$F_sha256-$i" ] || return 0; done
  name=${name//[!A-Za-z0-9._-]/_}
  ((MESSAGES += 1))
  file=$MESSAGES-${P_NAME[PEER]}-${2:0:8}-${name:0:80}
  for ((i = 1; i <= n; i++)); do
    cat "$S/held/$F_sha256-$i" || exit
    REMOVE="$REMOVE held/$F_sha256-$i"
  done >"$S/inbox/$file" || disk_full
  if [ "$(sha256 <"$S/inbox/$file")" = "$F_sha256" ]; then
    record file "${P_NAME[PEER]}" "$1" "$MESSAGES" "$(wc -c <"$S/inbox/$file" | tr -d ' ')" "$3" "$file"
  else
    REMOVE="$REMOVE inbox/$file"
    tampered broken-file "${P_NAME[PEER]}"
  fi
}
