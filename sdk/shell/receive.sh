# ---- receive: from the bridge's answer to the log ----

# A body waits in held/, under a name that only depends on its message, until the commit that gives it its number: who
# takes in the same message again, after a kill or beside another call, makes the same file.

receive() { # SECONDS: one poll, and the commit of what came. Status 1: CODE and MESSAGE
  local since epoch i
  load
  since=$CURSOR epoch=$EPOCH
  WATCH=receive request cursor GET "/poll?participant_id=$ID&since=$since&wait=$1&epoch=$epoch" '' '' $(($1 + 10)) &&
    is_decimal "$A1" && [ "$A1" -ge "$since" ] && [ "$A2" = "$epoch" ] || return 1
  while [ "$CURSOR $EPOCH" = "$since $epoch" ]; do
    CHANGED='' DONE='' CAME=''
    take_in
    [ "$CURSOR$ADDED$CHANGED" != "$since" ] && ! commit || break
    load && DONE='' CAME=''
  done
  for i in $CAME; do into_inbox "$i"; done
  # shellcheck disable=SC2086 # names of our own making
  [ -z "$DONE" ] || (cd "$S/held" && rm -f $DONE)
  for ((i = 0; i < PEERS; i++)); do # what peers asked for again; the debt stands in the log until it is paid
    [ "${P_OWED[i]}" != - ] && flush_all 5 && resend "$i" "${P_OWED[i]%:*}" "${P_OWED[i]#*:}" || continue
    P_OWED[i]=-
    commit || load
  done
}

take_in() { # our own words and $TMP/answer, into the state; after three seconds what is left waits for the next poll (CUT)
  local word a b c d e f g end=$((SECONDS + 3))
  CUT=''
  add_said
  while read -r word a b c d e f g <&3; do
    [ "$word" != cursor ] || break
    beat receive
    if [ "$word" = gap ]; then
      record gap -
      for ((a = 0; a < PEERS; a++)); do [ "${P_STATE[a]}" = gone ] || signal "$a" seen ''; done
    elif is_decimal "$a" && is_decimal "$b" && is_hex "$c" 32 && [ "$a" -le "$A1" ] && [ "$c" != "$ID" ]; then
      case $word in message) message "$a" "$c" "$d" "$e" "$f" "$g" ;; *) presence "$word" "$a" "$c" "$d" "$e" "$f" ;; esac
      [ "$SECONDS" -lt "$end" ] || { CUT=yes A1=$a && break; }
    else
      tampered malformed-answer bridge
    fi
  done 3<"$TMP/answer"
  CURSOR=$A1
  holes
}

add_said() { # our own messages, each in its place
  local file tag
  while [ -e "$S/outbox/$((SAID + 1))" ]; do
    ((SAID += 1))
    read -r _ _ _ tag _ <"$S/outbox/$SAID"
    for file in "$S/said/$SAID-$tag"-*; do [ ! -e "$file" ] || record said "${file##*-}" "${file##*/}"; done
  done
}

early() { [ "$EPOCH" = "$BORN_EPOCH" ] && [ "$1" -lt "$BORN" ]; } # INDEX: did it happen before we came?

# A participant presents itself -> PEER, a new row where its keys are new. Status 1: that is no card of its.
card() { # ID NONCE CIPHERTEXT TAG
  local i
  aad "$1" '*' card
  unseal "$ROOM" "$ROOM_H" "$AAD" "$2" "$3" "$4" && parse_frame && check_card "$1" || {
    tampered "card-$WHY" "${1:0:8}"
    return 1
  }
  for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do
    [ "${P_ID[PEER]}:${P_PUB[PEER]}:${P_SIGN[PEER]}" != "$1:$F_pub:$F_sign" ] || return 0
  done
  ! find_peer P_ID "$1" || record keys "$F_name"
  # Who was there before us has said things that are not for us: its first message shows where ours begin.
  i=-
  [ "$BORN" = 0 ] || i=0
  new_row "$1" "$F_name" "$F_kind" "$F_pub" "$F_sign" new - - "$i" 0 0
}

new_row() { # the first columns of ROW -> PEER
  local i=$PEERS
  PEER=$i
  ((PEERS += 1))
  # shellcheck disable=SC2086,SC2229
  read -r $ROW < <(printf '%s ' "$@" 0 0 0 0:0 $'-\n')
}

check_card() { # ID
  WHY=missing-header && [ -n "$F_kind" ] && [ -n "$F_name" ] && [ -n "$F_pub" ] && [ -n "$F_sign" ] || return 1
  WHY=bad-name && is_name "$F_name" || return 1
  WHY=bad-value && { [ "$F_kind" = agent ] || [ "$F_kind" = human ]; } || return 1
  WHY=bad-key && is_public_key "$F_pub" && is_public_key "$F_sign" || return 1
  WHY=wrong-id && [ "$(participant_of "$KEY" "$F_name")" = "$1" ]
}

presence() { # WORD INDEX ID REST
  local state
  case $1 in
    join)
      card "$3" "$4" "$5" "$6" || return 0
      state=${P_STATE[PEER]} CHANGED=yes
      if early "$2"; then
        [ "$state" != new ] || P_STATE[PEER]=gone
        return
      fi
      case $state in
        new | gone) record joined "${P_NAME[PEER]}" "${P_KIND[PEER]}" ;;
        lost) record back "${P_NAME[PEER]}" && signal "$PEER" seen '' ;;
      esac
      P_STATE[PEER]=here
      ;;
    away | back | leave)
      early "$2" || ! find_peer P_ID "$3" || [ "${P_STATE[PEER]}" = gone ] && return
      case $1 in away) P_STATE[PEER]=away ;; back) P_STATE[PEER]=here ;; leave) P_STATE[PEER]=gone ;; esac
      [ "$4" = expired ] || set -- "$1" '' '' ''
      record "$1" "${P_NAME[PEER]}" "$4"
      ;;
    *) tampered malformed-answer bridge ;;
  esac
}

message() { # INDEX FROM TO NONCE CIPHERTEXT TAG
  local to=all i name=${2:0:8} digest mark old late=-
  [ "$3" = '*' ] || to=me
  [ "$to" = all ] || [ "$3" = "$ID" ] || {
    tampered not-for-us bridge
    return
  }
  aad "$2" "$3" message
  WHY=unknown-sender
  for ((i = PEERS - 1; i >= 0; i--)); do
    [ "${P_ID[i]}" = "$2" ] || continue
    name=${P_NAME[i]}
    ! opened "$i" "$to" "$4" "$5" "$6" || break
  done
  if [ "$i" -lt 0 ]; then # an earlier bearer of our name had it sealed for its keys, or its sender left before us
    early "$1" && { [ "$to" = me ] || [ "$WHY" = unknown-sender ]; } || tampered "$WHY" "$name"
    return
  fi
  CHANGED=yes
  stream_row "$i" || {
    tampered too-many-streams "$name"
    return
  }
  mark="P_${to}[PEER]" mark=${!mark}
  digest="$F_stream-$to-$F_seq $({ printf '%s\n' "$HEADERS" && body; } | sha256)"
  if [ "$F_seq" -le "$mark" ]; then
    old=$({ cd "$S/log" && cat [0-9]* && printf %s "$ADDED"; } | sed -n "s/^dig \(${digest% *} .*\)/\1/p")
    if [ -n "$old" ] || { [ "$to" = all ] && [ "$F_seq" -le "${P_BASE[PEER]}" ]; }; then
      [ "${old:-$digest}" = "$digest" ] || [ "$F_kind" = void ] || tampered two-with-one-number "$name"
      return
    fi
    late=late
  fi
  receipts "$to"
  raise "P_top_$to" "$F_seq"
  [ "$to" = all ] || raise P_top_all "${F_after:-0}"
  if [ "$F_seq" -gt $((mark + 1)) ] || { [ "$to$late" = me- ] && [ "${F_after:-0}" -gt "${P_all[PEER]}" ]; }; then
    printf '%s\n' "$*" >"$S/held/${digest% *}" || disk_full # before its turn: kept as it came
  else
    raise "P_$to" "$F_seq"
    old="P_top_${to}[PEER]"
    [ "${P_HOLE[PEER]}" = 0 ] || [ "$F_seq" -ge "${!old}" ] || P_HOLE[PEER]=$((NOW))
    ADDED="${ADDED}dig $digest"$'\n' DONE="$DONE ${digest% *}"
    act "$to" "$6" "$late"
    release "$PEER"
  fi
}

opened() { # PEER TO NONCE CIPHERTEXT TAG: does it come from these keys?
  if [ "$2" = me ]; then
    direct_key "$1" && unseal "$DIRECT" "$DIRECT_H" "$AAD" "$3" "$4" "$5" && parse_frame && check_message "$2"
  else
    unseal "$ROOM" "$ROOM_H" "$AAD" "$3" "$4" "$5" && parse_frame && check_message "$2" || return 1
    WHY=unsigned && [ -n "$SIGNATURE" ] || return 1
    WHY=bad-signature
    verify "${P_SIGN[$1]}" "$SIGNATURE" < <(printf '%s\n\n%s\n' "$AAD" "$HEADERS" && body)
  fi
}

stream_row() { # a row of the keys -> PEER, the row of the stream, new if need be. Status 1: too many
  local rows=0
  for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do
    [ "${P_PUB[PEER]}" = "${P_PUB[$1]}" ] || continue
    [ "${P_STREAM[PEER]}" != "$F_stream" ] || return 0
    ((rows += 1))
  done
  PEER=$1
  if [ "${P_STREAM[PEER]}" != - ]; then
    [ "$rows" -lt 8 ] || return 1
    new_row "${P_ID[$1]}" "${P_NAME[$1]}" "${P_KIND[$1]}" "${P_PUB[$1]}" "${P_SIGN[$1]}" "${P_STATE[$1]}" - - 0 0 0
    P_STATE[$1]=gone
  fi
  P_STREAM[PEER]=$F_stream
  [ "${P_BASE[PEER]}" != - ] || P_BASE[PEER]=${F_after:-$((F_seq - 1))}
  P_all[PEER]=${P_BASE[PEER]} P_top_all[PEER]=${P_BASE[PEER]}
}

# shellcheck disable=SC2219 # (( )) takes no name from a variable
raise() { let "$1[PEER] = $1[PEER] < $2 ? $2 : $1[PEER]" || :; } # COLUMN NUMBER: to at least that, for PEER

receipts() { # TO: what the sender says that it has of ours
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
  local file
  case $F_kind in
    text)
      ((MESSAGES += 1))
      file=$MESSAGES-${P_NAME[PEER]}-${2:0:8}.txt
      body >"$TMP/body" && mv "$TMP/body" "$S/held/${file#*-}" || disk_full
      CAME="$CAME $file"
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
      for file in ${F_final//,/ }; do
        [ "${file%:*}" != "$ID" ] || ! is_decimal "${file#*:}" || raise P_top_me "${file#*:}"
      done
      [ "${P_STATE[PEER]}" = gone ] || { P_STATE[PEER]=gone && record leave "${P_NAME[PEER]}"; }
      ;;
  esac
}

part() { # as act: one part of a file; where all are there, the file
  local i part=${F_part%/*} n=${F_part#*/} name=${F_name##*/} file
  [ "${n:-9999}" -le 4096 ] && [ -n "$F_sha256" ] || {
    tampered bad-part "${P_NAME[PEER]}"
    return
  }
  file=$F_stream-$1-$F_sha256-$n
  body >"$TMP/body" && mv "$TMP/body" "$S/held/$file-$part" || disk_full
  [ "$part" = "$n" ] || [ "$3" = late ] || return 0
  for ((i = 1; i <= n; i++)); do [ -e "$S/held/$file-$i" ] || return 0; done
  for ((i = 1; i <= n; i++)); do cat "$S/held/$file-$i" && DONE="$DONE $file-$i"; done >"$TMP/file" || disk_full
  [ "$(sha256 <"$TMP/file")" = "$F_sha256" ] || {
    tampered broken-file "${P_NAME[PEER]}"
    return
  }
  name=${name//[!A-Za-z0-9._-]/_}
  ((MESSAGES += 1))
  file=$MESSAGES-${P_NAME[PEER]}-${2:0:8}-${name:0:80}
  record file "${P_NAME[PEER]}" "$1" "$MESSAGES" "$(wc -c <"$TMP/file" | tr -d ' ')" "$3" "$file"
  mv "$TMP/file" "$S/held/${file#*-}" || disk_full
  CAME="$CAME $file"
}

paired() { [ "${P_PAIRED[PEER]}" = yes ] || { P_PAIRED[PEER]=yes && record paired "${P_NAME[PEER]}"; }; }

challenge() { # PEER, or `hello`: random to everybody else, and nothing to remember
  if [ "$1" = hello ]; then set -- "$STREAM"; else set -- "${P_PUB[$1]}"; fi
  printf '%s %s' "$SEED" "$1" | sha256 | cut -c1-32
}

release() { # PEER: what was held and is next in line
  local marks='' to file a b c d e f
  while [ "$marks" != "${P_all[$1]}:${P_me[$1]}" ]; do
    marks=${P_all[$1]}:${P_me[$1]}
    for to in me all; do # first what was said to us alone: it waits for the broadcasts before it
      file="P_${to}[$1]" file=$S/held/${P_STREAM[$1]}-$to-$((${!file} + 1))
      [ ! -e "$file" ] || { read -r a b c d e f <"$file" && message "$a" "$b" "$c" "$d" "$e" "$f"; }
    done
  done
}

holes() { # a hole asks for what it lacks, waits a minute while nothing fills it, and is then announced and passed over
  local i to mark top missed file
  HOLES=''
  for ((i = 0; i < PEERS; i++)); do
    if [ "${P_all[i]}" -ge "${P_top_all[i]}" ] && [ "${P_me[i]}" -ge "${P_top_me[i]}" ]; then
      [ "${P_HOLE[i]}" = 0 ] || P_HOLE[i]=0 CHANGED=yes
      continue
    fi
    HOLES=yes
    if [ "${P_HOLE[i]}" = 0 ]; then
      P_HOLE[i]=$((NOW)) CHANGED=yes
      [ "${P_STATE[i]}" = gone ] || signal "$i" seen ''
    elif [ $((NOW - P_HOLE[i])) -ge 60 ]; then
      missed=0 CHANGED=yes
      for to in all me; do
        mark="P_${to}[i]" mark=${!mark} top="P_top_${to}[i]" top=$((${!top} + 1))
        for file in "$S/held/${P_STREAM[i]}-$to-"*; do # the next that is there
          file=${file#"$S/held/${P_STREAM[i]}-$to-"}
          is_decimal "$file" && [ "$file" -gt "$mark" ] && [ "$file" -lt "$top" ] && top=$file
        done
        ((missed += top > mark ? top - 1 - mark : 0))
        PEER=$i && raise "P_$to" $((top - 1))
      done
      [ "$missed" -eq 0 ] || record missed "${P_NAME[i]}" "$missed"
      release "$i"
    fi
  done
}
