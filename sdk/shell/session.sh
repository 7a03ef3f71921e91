# ---- session: one participant's private folder, S ----

# session    who we are, written once           log/N    commit N: the state after it, and the records it added
# outbox/N   what we said, sealed, in order     said/    the same in plain words, for agentalk_log
# sent       the last of them the bridge took   shown    which records were printed
# inbox/     what came, byte for byte           held/    what came before its turn
# ecdh.pem sign.pem access token join direct/   secrets

say() { printf 'agentalk: %s\n' "$*"; }

fail() { # what is wrong; what to do
  printf 'agentalk: error: %s\n' "$*" >&2
  exit 1
}

disk_full() { fail "can't write in $S. Is its disk full? Free some space and call again; nothing is lost or half-done."; }

nap() { sleep 0.2 2>/dev/null || sleep 1; }

now() { NOW=$((STARTED + SECONDS)); }

start() { # what each command in a session needs
  local key value
  [ -f "$S/session" ] || fail "this is not a session. See which there are: bash '$0' sessions"
  while read -r key value; do
    case $key in
      BRIDGE | CHANNEL | KEY | NAME | ID | STREAM | SEED | CACERT | ROOM_H | LIMIT | ENV_FILE) printf -v "$key" %s "$value" ;;
    esac
  done <"$S/session"
  [ -n "$KEY" ] || fail "you left this channel. Its words are still in $S/inbox; a new one: bash '$0' create $BRIDGE"
  ROOM="agentalk/1 room $KEY"
  workplace
  load
}

workplace() { # TMP, a folder of this process
  TMP=$S/tmp.$STARTED.$$.$RANDOM
  mkdir "$TMP" 2>/dev/null || disk_full
  trap clean EXIT
  trap 'exit 130' INT HUP TERM
}

clean() {
  local name
  [ -z "$CURL" ] || kill "$CURL" 2>/dev/null
  for name in $LOCKS; do unlock "$name"; done
  rm -rf "$TMP"
}

sweep() { # what killed processes left: no call but a listener lasts twenty minutes
  local folder at
  now
  for folder in "$S"/tmp.*; do
    at=${folder##*/tmp.} at=${at%%.*}
    [ "$folder" = "$TMP" ] || [ $((NOW - at)) -lt 1200 ] || grep -qsF "$folder " "$S"/*.lock || rm -rf "$folder"
  done
}

# The log is the session's one truth. Commit N+1 is made from commit N by linking a finished file to that name, which
# fails if somebody was faster. So however many of us run, freeze or die in between, each event counts exactly once.

load() { # the newest commit
  local peers=0 i
  COMMIT=0
  [ ! -f "$S/head" ] || read -r COMMIT <"$S/head"
  is_decimal "$COMMIT" && [ -e "$S/log/$COMMIT" ] || COMMIT=0
  while [ -e "$S/log/$((COMMIT + 1))" ]; do ((COMMIT += 1)); done
  # EPOCH and CURSOR of the bridge; BORN_EPOCH and BORN, where we first joined; how many records, messages and own
  # messages the log has; CAUSES of TAMPERED that were told.
  CURSOR=0 EPOCH=0 BORN=0 BORN_EPOCH=0 RECORDS=0 MESSAGES=0 SAID=0 CAUSES=' ' ADDED=''
  # Peers: one row for each set of keys and stream, newest last. B and D: all its broadcasts and direct messages up to
  # there are here or given up; BASE: where the broadcasts started for us; TOP_…: numbers up to there exist; HOLE: since
  # when one lacks; HAS and OWED: what it has of ours, and from where it asked again (B:D).
  P_ID=() P_NAME=() P_KIND=() P_STATE=() P_PAIRED=() P_STREAM=() P_BASE=() P_B=() P_TOP_B=() P_D=() P_TOP_D=()
  P_HOLE=() P_HAS=() P_OWED=() P_PUB=() P_SIGN=()
  [ "$COMMIT" -gt 0 ] || return 0
  {
    read -r CURSOR EPOCH BORN BORN_EPOCH RECORDS MESSAGES SAID peers CAUSES
    CAUSES=" $CAUSES "
    for ((i = 0; i < peers; i++)); do
      read -r 'P_ID[i]' 'P_NAME[i]' 'P_KIND[i]' 'P_STATE[i]' 'P_PAIRED[i]' 'P_STREAM[i]' 'P_BASE[i]' 'P_B[i]' \
        'P_TOP_B[i]' 'P_D[i]' 'P_TOP_D[i]' 'P_HOLE[i]' 'P_HAS[i]' 'P_OWED[i]' 'P_PUB[i]' 'P_SIGN[i]'
    done
  } <"$S/log/$COMMIT"
}

commit() { # status 1: somebody was faster; load, and do it again
  local i
  {
    printf '%s ' "$CURSOR" "$EPOCH" "$BORN" "$BORN_EPOCH" "$RECORDS" "$MESSAGES" "$SAID" "${#P_ID[@]}"
    printf '%s\n' "$CAUSES"
    for ((i = 0; i < ${#P_ID[@]}; i++)); do
      printf '%s %s %s %s %s %s %s %s %s %s %s %s %s %s %s %s\n' "${P_ID[i]}" "${P_NAME[i]}" "${P_KIND[i]}" \
        "${P_STATE[i]}" "${P_PAIRED[i]}" "${P_STREAM[i]}" "${P_BASE[i]}" "${P_B[i]}" "${P_TOP_B[i]}" "${P_D[i]}" \
        "${P_TOP_D[i]}" "${P_HOLE[i]}" "${P_HAS[i]}" "${P_OWED[i]}" "${P_PUB[i]}" "${P_SIGN[i]}"
    done
    printf %s "$ADDED"
    printf 'upto %s\n' "$RECORDS"
  } >"$TMP/commit" || disk_full
  ln "$TMP/commit" "$S/log/$((COMMIT + 1))" 2>/dev/null || { [ -e "$S/log/$((COMMIT + 1))" ] && return 1; } || disk_full
  rm -f "$TMP/commit"
  ((COMMIT += 1))
  printf '%s\n' "$COMMIT" >"$S/head"
  ADDED=''
}

record() { # TYPE NAME WORDS: the next line of the conversation
  now
  ((RECORDS += 1))
  ADDED="${ADDED}rec $RECORDS $1 $NOW ${*:2}"$'\n'
}

tampered() { # CAUSE NAME: told once for each
  case $CAUSES in *" $1:$2 "*) return ;; esac
  [ ${#CAUSES} -gt 2000 ] || { CAUSES="$CAUSES$1:$2 " && record tampered "$2" "$1"; }
}

# Locks only save work: the log is right without them. Who holds one writes the time into it; where that stopped ten
# seconds ago the holder is dead or frozen, and the next one takes over. A pid would say nothing: each tool call of an
# agent may have pids of its own.

lock() { # NAME
  local owner='' at=''
  now
  claim "$1" && return
  read -r owner at 2>/dev/null <"$S/$1.lock"
  [ "$owner" != "$TMP" ] || return 0
  is_decimal "$at" && [ $((NOW - at)) -le 10 ] && [ $((at - NOW)) -le 10 ] && return 1
  mv "$S/$1.lock" "$TMP/dead" 2>/dev/null
  claim "$1"
}

claim() {
  (set -C && printf '%s %s\n' "$TMP" "$NOW" >"$S/$1.lock") 2>/dev/null && LOCKS="$LOCKS $1"
}

beat() { # NAME; status 1: it was taken over
  local owner=''
  read -r owner _ 2>/dev/null <"$S/$1.lock"
  now
  [ "$owner" = "$TMP" ] && printf '%s %s\n' "$TMP" "$NOW" >"$S/$1.lock"
}

unlock() { ! beat "$1" || rm -f "$S/$1.lock"; } # NAME

peer_with() { # ID -> PEER, the newest row
  for ((PEER = ${#P_ID[@]} - 1; PEER >= 0; PEER--)); do [ "${P_ID[PEER]}" != "$1" ] || return 0; done
  return 1
}

peer_named() { # NAME -> PEER
  for ((PEER = ${#P_ID[@]} - 1; PEER >= 0; PEER--)); do [ "${P_NAME[PEER]}" != "$1" ] || return 0; done
  return 1
}

names() { # of those in the channel
  local i
  for ((i = 0; i < ${#P_ID[@]}; i++)); do [ "${P_STATE[i]}" = gone ] || printf ' %s' "${P_NAME[i]}"; done
}

direct_key() { # PEER -> DIRECT, DIRECT_H; made once and kept
  local file=${P_PUB[$1]:36:40}
  file=$S/direct/${file//\//_}
  if [ -e "$file" ]; then
    { read -r DIRECT_H && read -r DIRECT; } <"$file"
  else
    DIRECT=$(shared_x "$S/ecdh.pem" "${P_PUB[$1]}")
    WHY=bad-key && is_hex "$DIRECT" 64 || return 1
    DIRECT="agentalk/1 direct $KEY $DIRECT"
    DIRECT_H=$(hash_key "$DIRECT")
    printf '%s\n%s\n' "$DIRECT_H" "$DIRECT" >"$TMP/direct" && mv "$TMP/direct" "$file" || disk_full
  fi
}
