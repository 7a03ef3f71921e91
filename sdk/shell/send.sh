# ---- send: number, seal, keep, hand over ----

# outbox/N is a line `KEY SEQ ALL` (KEY: * or the recipient's key; ALL: our broadcasts so far) and the request's body.
# It is linked there complete by whoever comes first, so no number is used twice, and goes out as these same bytes
# until the bridge has taken it.

last_of() { # KEY -> OUT, the last N; ALL, our last broadcast; SEQ, our last to KEY
  local key seq all n
  sent
  OUT=$SENT ALL=0 SEQ=0
  while [ -e "$S/outbox/$((OUT + 1))" ]; do ((OUT += 1)); done
  for ((n = OUT; n > 0; n--)); do
    read -r key seq all <"$S/outbox/$n"
    [ "$n" -ne "$OUT" ] || ALL=$all
    [ "$key" != "$1" ] || { SEQ=$seq && return; }
  done
}

key_of() { [ "$1" = '*' ] && printf '*' || printf %s "${P_PUB[$1]:36:20}"; } # * or PEER

sent() { # -> SENT, the last N that the bridge has
  SENT=0
  [ ! -f "$S/sent" ] || read -r SENT <"$S/sent"
}

# What we have of a peer's stream, for the `seen` header.
marks_of() { printf '%s %s %s' "${P_STREAM[$1]/#-/0000000000000000}" "${P_B[$1]/#-/0}" "${P_D[$1]}"; } # PEER

make() { # TO(* or PEER) KIND HEADERS KEY SEQ ALL; the body is $TMP/body -> $TMP/out
  local to='*' pass=$ROOM h=$ROOM_H headers=$3 i seen=''
  if [ "$1" = '*' ]; then
    for ((i = ${#P_ID[@]} - 1; i >= 0 && ${#seen} < 500; i--)); do
      [ "${P_STREAM[i]}" = - ] || seen="$seen,${P_STREAM[i]} ${P_B[i]}"
    done
    [ -z "$seen" ] || headers="seen: ${seen#,}"$'\n'$headers
  else
    direct_key "$1" || return 1
    to=${P_ID[$1]} pass=$DIRECT h=$DIRECT_H headers="after: $6"$'\n'"seen: $(marks_of "$1")"$'\n'$headers
  fi
  aad "$ID" "$to" message
  now
  headers="kind: $2"$'\n'"stream: $STREAM"$'\n'"seq: $5"$'\n'"time: ${NOW}000"$'\n'$headers
  if [ "$1" = '*' ]; then
    headers="${headers}signature: $({ printf '%s\n\n%s\n' "$AAD" "$headers" && cat "$TMP/body"; } | sign "$S/sign.pem")"$'\n'
  fi
  { printf '%s\n' "$headers" && cat "$TMP/body"; } >"$TMP/frame" && seal "$pass" "$h" "$AAD" "$TMP/frame" && {
    printf '%s %s %s\n{"to":"%s","participant_id":"%s","nonce":"%s","tag":"%s","ciphertext":"' "$4" "$5" "$6" "$to" \
      "$ID" "$NONCE" "$TAG" && sealed && printf '"}\n'
  } >"$TMP/out"
}

enqueue() { # TO KIND HEADERS; the body is $TMP/body -> N
  local key words=''
  key=$(key_of "$1")
  while :; do
    last_of "$key"
    N=$((OUT + 1))
    [ "$1" != '*' ] || ((ALL += 1))
    make "$1" "$2" "$3" "$key" $((SEQ + 1)) "$ALL" || disk_full
    case $2 in
      text | file)
        words=$S/said/$N-$TAG-all
        [ "$1" = '*' ] || words=$S/said/$N-$TAG-${P_NAME[$1]}
        cat "$TMP/body" >"$words" || disk_full
        ;;
    esac
    ln "$TMP/out" "$S/outbox/$N" 2>/dev/null && break
    [ -z "$words" ] || rm -f "$words"
    [ -e "$S/outbox/$N" ] || disk_full
  done
  rm -f "$TMP/out"
}

signal() { : >"$TMP/body" && enqueue "$@"; } # TO KIND HEADERS: one without a body

# Message N to the bridge. Status 0: the bridge has it (PRESENT: who gets it); or its recipient is absent, who will ask
# for it when it is back (ABSENT). Status 1: CODE and MESSAGE.
post() { # N
  local key seq all
  PRESENT='' ABSENT=''
  { read -r key seq all && cat; } <"$S/outbox/$1" >"$TMP/post"
  if request POST "/channels/$CHANNEL/send?epoch=$EPOCH&since=$CURSOR" "$S/token" 15 "$TMP/post"; then
    last_line sent && PRESENT=$(sed -n 's/^recipient //p' "$TMP/answer")
    return
  fi
  case $CODE in
    no_recipient) ABSENT=yes ;;
    bad_request | too_large | nonce_reused) # refused for good: its number goes to an empty message, so that nobody waits
      say "the bridge refused message: $MESSAGE"
      : >"$TMP/body"
      if [ "$key" != '*' ]; then
        for ((PEER = ${#P_ID[@]} - 1; PEER > 0; PEER--)); do [ "$(key_of "$PEER")" != "$key" ] || break; done
        make "$PEER" void '' "$key" "$seq" "$all"
      else
        make '*' void '' "$key" "$seq" "$all"
      fi && mv "$TMP/out" "$S/outbox/$1"
      return 1
      ;;
    *) return 1 ;;
  esac
}

# Hands over what is in the outbox, in order, until message N is with the bridge, or the time is over (status 1). What
# can pass is tried again, with the same bytes.
flush() { # N SECONDS
  local end=$((SECONDS + $2)) tries=0 pause
  while sent && [ "$SENT" -lt "$1" ]; do
    [ "$SECONDS" -le "$end" ] || return 1
    lock send || { nap && continue; }
    sent
    [ "$SENT" -lt "$1" ] || break
    beat send
    if post $((SENT + 1)); then
      printf '%s\n' $((SENT + 1)) >"$TMP/sent" && mv "$TMP/sent" "$S/sent" || disk_full
      [ -z "$ABSENT" ] || SKIPPED="$SKIPPED $((SENT + 1)) "
      tries=0
      continue
    fi
    lost_us && rejoin && continue
    over
    ((tries += 1))
    pause=${RETRY:-$((tries < 5 ? tries - 1 : 5))}
    [ $((SECONDS + pause)) -le "$end" ] || break
    sleep "$pause.$((RANDOM % 9))" 2>/dev/null || sleep $((pause + 1))
  done
  unlock send
  [ "$SENT" -ge "$1" ]
}

flush_all() { last_of '*' && flush "$OUT" "$1"; } # SECONDS

resend() { # PEER B D: what it says that it lacks
  local n key seq list='' mine
  mine=$(key_of "$1")
  last_of '*'
  for ((n = SENT; n > 0; n--)); do
    read -r key seq _ <"$S/outbox/$n" || break
    case $key in
      '*') [ "$seq" -le "$2" ] || list="$n $list" ;;
      "$mine") [ "$seq" -le "$3" ] || list="$n $list" ;;
    esac
  done
  for n in $list; do post "$n" || return 1; done
}

# ---- the channel: join it, and come back to it ----

enter() { # create or find it, and join -> FOUND (created, found), EPOCH, CURSOR, JOINED_AT, the participants as peers
  local word id a b c nonce ciphertext tag
  request PUT "/channels/$CHANNEL" "$S/access" 20 && last_line channel && is_decimal "$A3" || return 1
  FOUND=$A2 LIMIT=$A3
  request POST "/channels/$CHANNEL/join" "$S/access" 20 "$S/join" && last_line cursor && is_decimal "$A1" &&
    is_hex "$A2" 32 && is_decimal "$A4" || return 1
  CURSOR=$A1 EPOCH=$A2 JOINED_AT=$A4
  while read -r word id a b c nonce ciphertext tag <&3; do
    [ "$word" = participant ] && is_hex "$id" 32 && [ "$id" != "$ID" ] || continue
    card "$id" "$nonce" "$ciphertext" "$tag" && P_STATE[PEER]=here
  done 3<"$TMP/answer"
}

lost_us() { case $CODE in no_channel | no_participant | other_epoch) ;; *) return 1 ;; esac; }

over() { # codes after which no retry helps
  case $CODE in
    bad_token | wrong_key | name_taken)
      fail "the bridge no longer takes this session: $MESSAGE Tell your user. A new channel: bash '$S/agentalk.sh' create $BRIDGE" ;;
  esac
}

# The bridge restarted, gave us up, or another one has the channel now: the same channel, name and token again, and each
# member that is back is told what we have, so that it sends the rest.
rejoin() {
  local before=$EPOCH i
  while load && [ "$EPOCH" = "$before" ]; do
    for ((i = 0; i < ${#P_ID[@]}; i++)); do [ "${P_STATE[i]}" = gone ] || P_STATE[i]=lost; done
    enter || return 1
    for ((i = 0; i < ${#P_ID[@]}; i++)); do [ "${P_STATE[i]}" != here ] || signal "$i" seen ''; done
    record resumed - "$FOUND"
    ! commit || return 0
  done
}
