# ---- send: number, seal, keep, hand over ----

# outbox/N is a line `WHOM SEQ ALL TAG [PART]` (WHOM: * or the recipient's key; ALL: our broadcasts so far; TAG: that of
# the seal; PART: of a file, its sha256 and number) and the request's body.
# It is linked there complete by whoever comes first, so no number is used twice, and goes out as these same bytes
# until the bridge has taken it.

whom() { if [ "$1" = '*' ]; then WHOM='*'; else WHOM=${P_PUB[$1]:36:20}; fi; } # * or PEER -> WHOM

last_of() { # * or PEER -> OUT, the last N; ALL, our last broadcast; SEQ, our last to that one; SENT, WHOM
  local to seq all n
  whom "$1"
  sent
  OUT=$SENT ALL=0 SEQ=0
  while [ -e "$S/outbox/$((OUT + 1))" ]; do ((OUT += 1)); done
  for ((n = OUT; n > 0; n--)); do
    read -r to seq all _ <"$S/outbox/$n"
    [ "$n" -ne "$OUT" ] || ALL=$all
    [ "$to" != "$WHOM" ] || { SEQ=$seq && return; }
  done
}

sent() { SENT=0 && [ ! -f "$S/sent" ] || read -r SENT <"$S/sent"; } # -> SENT, the last N that the bridge has

make() { # * or PEER, KIND, HEADERS; WHOM, SEQ and ALL; the body is $TMP/body -> $TMP/out
  local to='*' pass=$ROOM h=$ROOM_H headers='' i
  if [ "$1" = '*' ]; then
    for ((i = PEERS - 1; i >= 0 && ${#headers} < 286; i--)); do # at most 16
      [ "${P_STREAM[i]}" = - ] || headers="$headers,${P_STREAM[i]} ${P_all[i]}"
    done
    headers=${headers/#,/seen: }${headers:+$'\n'}
  else
    direct_key "$1" || return 1
    to=${P_ID[$1]} pass=$DIRECT h=$DIRECT_H
    headers="after: $ALL"$'\n'"seen: ${P_STREAM[$1]/#-/0000000000000000} ${P_all[$1]} ${P_me[$1]}"$'\n'
  fi
  headers="kind: $2"$'\n'"stream: $STREAM"$'\n'"seq: $SEQ"$'\n'"time: $((NOW))000"$'\n'$headers$3
  aad "$ID" "$to" message
  [ "$1" != '*' ] ||
    headers="${headers}signature: $({ printf '%s\n\n%s\n' "$AAD" "$headers" && cat "$TMP/body"; } | sign "$S/sign.pem")"$'\n'
  { printf '%s\n' "$headers" && cat "$TMP/body"; } >"$TMP/frame" && seal "$pass" "$h" "$AAD" "$TMP/frame" && {
    printf '%s %s %s %s %s\n{"to":"%s","participant_id":"%s","nonce":"%s","tag":"%s","ciphertext":"' "$WHOM" "$SEQ" \
      "$ALL" "$TAG" "$PART" "$to" "$ID" "$NONCE" "$TAG" && sealed && printf '"}\n'
  } >"$TMP/out"
}

enqueue() { # * or PEER, KIND, HEADERS, [WORDS for the log]; the body is $TMP/body -> N
  local words=''
  while :; do
    last_of "$1"
    ((N = OUT + 1, SEQ += 1))
    [ "$1" != '*' ] || ALL=$SEQ
    make "$@" || disk_full
    if [ "$2" = text ] || [ -n "${4:-}" ]; then
      words=$S/said/$N-$TAG-all
      [ "$1" = '*' ] || words=${words%all}${P_NAME[$1]}
      if [ -n "${4:-}" ]; then printf %s "$4"; else cat "$TMP/body"; fi >"$words" || disk_full
    fi
    ln "$TMP/out" "$S/outbox/$N" 2>/dev/null && break
    [ -z "$words" ] || rm -f "$words"
    [ -e "$S/outbox/$N" ] || disk_full
  done
  rm -f "$TMP/out"
  [ $((N % 64)) -ne 0 ] || trim
}

trim() { # of an outbox beyond 64 MB the older half keeps only its lines
  local n
  set -- "$(du -sk "$S/outbox")"
  for ((n = ${1%%[!0-9]*} > 65536 ? SENT / 2 : 0; n > 0; n--)); do
    sed 1q "$S/outbox/$n" >"$TMP/line" && mv "$TMP/line" "$S/outbox/$n"
  done
}

signal() { : >"$TMP/body" && enqueue "$@"; } # one without a body

# Message N to the bridge. Status 0: it has it (PRESENT: its answer), or the recipient is absent and will ask for it
# (ABSENT). Status 1: CODE and MESSAGE.
post() { # N
  PRESENT='' ABSENT=''
  { read -r WHOM SEQ ALL _ && cat; } <"$S/outbox/$1" >"$TMP/post" || disk_full
  if [ ! -s "$TMP/post" ]; then
    CODE=trimmed MESSAGE="too old, the outbox keeps 64 MB"
  elif request sent POST "/send?epoch=$EPOCH&since=$CURSOR" "$TMP/post"; then
    read -r -d '' PRESENT <"$TMP/answer"
    return 0
  fi
  case $CODE in
    no_recipient) ABSENT=yes ;;
    trimmed | bad_request | too_large | nonce_reused) # refused for good: an empty one takes its number, so that nobody waits for it
      local number=$WHOM to='*'
      say "one of your messages can't be sent: $MESSAGE"
      : >"$TMP/body"
      for ((PEER = 0; PEER < PEERS; PEER++)); do whom "$PEER" && [ "$WHOM" != "$number" ] || to=$PEER; done
      WHOM=$number && make "$to" void '' && mv "$TMP/out" "$S/outbox/$1"
      return 1
      ;;
    *) return 1 ;;
  esac
}

# Hands over what is in the outbox, in order, until message N is with the bridge, or the time is over (status 1). What
# can pass is tried again, with the same bytes.
flush() { # N SECONDS
  local end=$((SECONDS + $2)) tries=0 pause
  while sent && [ "$SENT" -lt "$1" ] && [ "$SECONDS" -le "$end" ]; do
    lock send || { pause 0 && continue; }
    sent
    beat send
    if [ "$SENT" -ge "$1" ]; then
      break
    elif post $((SENT + 1)); then
      printf '%s\n' $((SENT + 1)) >"$TMP/sent" && mv "$TMP/sent" "$S/sent" || disk_full
      [ -z "$ABSENT" ] || SKIPPED="$SKIPPED $((SENT + 1)) "
      tries=0
    elif ! rejoin; then
      pause=${RETRY:-$((tries < 5 ? tries : 5))}
      ((tries += 1))
      [ $((SECONDS + pause)) -le "$end" ] || break
      pause "$pause"
    fi
  done
  unlock send
  [ "$SENT" -ge "$1" ]
}

pause() { sleep "$1.$((2 + RANDOM % 7))" 2>/dev/null || sleep $(($1 + 1)); } # SECONDS, and a random part of one

flush_all() { last_of '*' && flush "$OUT" "$1"; } # SECONDS

resend() { # PEER B D: what it says that it lacks
  local n to seq tries list=''
  last_of "$1"
  for ((n = SENT; n > 0; n--)); do
    read -r to seq _ <"$S/outbox/$n"
    case $to in '*') [ "$seq" -le "$2" ] ;; "$WHOM") [ "$seq" -le "$3" ] ;; esac || list="$n $list"
  done
  for n in $list; do
    for tries in 1 2 3 4 5; do
      beat receive
      ! post "$n" || continue 2
      ! rejoin && pause "${RETRY:-$tries}" || return 1
    done
    return 1
  done
}

# ---- the channel: join it, and come back to it ----

enter() { # create or find it, and join -> FOUND (created, found), EPOCH, CURSOR, JOINED_AT, the participants as peers
  local word id nonce ciphertext tag
  request channel PUT '' '' access && is_decimal "$A3" || return 1
  FOUND=$A2 LIMIT=$A3
  request cursor POST /join "$S/join" access && is_decimal "$A1" && is_hex "$A2" 32 && is_decimal "$A4" || return 1
  CURSOR=$A1 EPOCH=$A2 JOINED_AT=$A4
  while read -r word id _ _ _ nonce ciphertext tag <&3; do
    [ "$word" = participant ] && is_hex "$id" 32 && [ "$id" != "$ID" ] || continue
    ! card "$id" "$nonce" "$ciphertext" "$tag" || P_STATE[PEER]=here
  done 3<"$TMP/answer"
}

# After CODE of a request. The bridge restarted, gave us up, or another one has the channel now: the same channel, name
# and token again, and each member that is back is told what we have, so that it sends the rest.
rejoin() {
  local before=$EPOCH i
  case $CODE in
    no_channel | no_participant | other_epoch) ;;
    bad_token | wrong_key | name_taken)
      fail "the bridge no longer takes this session: $MESSAGE. Tell your user. A new one: bash '$S/agentalk.sh' create $BRIDGE"
      ;;
    *) return 1 ;;
  esac
  while load && [ "$EPOCH" = "$before" ]; do
    for ((i = 0; i < PEERS; i++)); do P_HOLE[i]=0 && [ "${P_STATE[i]}" = gone ] || P_STATE[i]=lost; done
    enter || return 1
    for ((i = 0; i < PEERS; i++)); do [ "${P_STATE[i]}" != here ] || signal "$i" seen ''; done
    add_said
    record resumed -
    ! commit || break
  done
  unsend
}

unsend() { # what not all are known to have goes out again, before anything new: so the order stays
  local n to seq i known
  sent
  for ((n = 1; n <= SENT; n++)); do
    read -r to seq _ <"$S/outbox/$n"
    known=''
    for ((i = 0; i < PEERS; i++)); do
      whom "$i"
      [ "${P_STATE[i]}" != gone ] || continue
      case $to in
        '*') known=yes && [ "$seq" -le "${P_HAS[i]%:*}" ] || break 2 ;;
        "$WHOM") [ "$seq" -le "${P_HAS[i]#*:}" ] || break 2 ;;
      esac
    done
    [ "$to$known" != '*' ] || break
  done
  [ "$n" -gt "$SENT" ] || { printf '%s\n' $((n - 1)) >"$TMP/sent" && mv "$TMP/sent" "$S/sent"; }
}
