# ---- session: one participant's private folder, S ----

# session  who we are, written once           log/N   commit N: the state after it, and the records it added
# outbox/N what we said, sealed, in order     said/   the same in plain words, for agentalk_log
# sent     the last N that the bridge took    shown   which records were printed
# inbox/   what came, byte for byte           held/   what came before its turn
# *.pem access token join direct/ are secrets

say() { printf 'agentalk: %s\n' "$*"; }

fail() { # what is wrong; what to do
  printf 'agentalk: error: %s\n' "$*" >&2
  exit 1
}

disk_full() { fail "can't write in $S. Is its disk full? Free some space and call again; nothing is lost or half-done."; }

NOW='STARTED + SECONDS' # for arithmetic, which evaluates it: Unix seconds

WHO='BRIDGE CHANNEL KEY NAME ID STREAM SEED CACERT ROOM_H LIMIT ENV_FILE ROLE'

start() { # COMMAND: what it needs in a session
  local key value
  [ -f "$S/session" ] || fail "this is no session. Which there are: bash '$0' sessions"
  while read -r key value; do
    case " $WHO " in *" $key "*) printf -v "$key" %s "$value" ;; esac
  done <"$S/session"
  case $KEY$1 in log | show) ;; "$1") fail "you left this channel. agentalk_log shows what was said; a new one: bash '$0' create $BRIDGE" ;; esac
  ROOM="agentalk/1 room $KEY"
  workplace
  load
}

workplace() { # TMP, a folder of this process, and room on its disk for what one call writes
  TMP=$S/tmp.$STARTED.$$.$RANDOM
  trap clean EXIT
  mkdir "$TMP" 2>/dev/null || disk_full
  printf %1048576s '' 2>/dev/null >"$TMP/room" && : >"$TMP/room" || disk_full
  trap 'exit 130' INT HUP TERM
}

clean() {
  local name
  [ -z "$CURL" ] || kill "$CURL" 2>/dev/null
  for name in receive send show; do unlock "$name"; done
  rm -rf "$TMP" "$NEW"
}

sweep() { # what killed processes left: no call but a listener's lasts twenty minutes
  local folder at
  for folder in "$S"/tmp.*; do
    at=${folder##*/tmp.}
    [ "$folder" = "$TMP" ] || [ $((NOW - ${at%%.*})) -lt 1200 ] || grep -qsF "$folder " "$S"/*.lock || rm -rf "$folder"
  done
}

# The log is the session's one truth. Commit N+1 is made from commit N by linking a finished file to that name, which
# fails if somebody was faster. So however many of us run, freeze or die in between, each event counts exactly once.
# Its head is the bridge's CURSOR and EPOCH, where we first joined (BORN in BORN_EPOCH), counts, the CAUSES of TAMPERED
# that were told; then a row for each peer and stream, newest last:
# all, me   its broadcasts and its direct messages to us are here, or given up, up to this number
# top_…     numbers up to this one exist           BASE   where its broadcasts began for us; - until known
# HOLE      since when one lacks, or 0             HAS    what it has of ours, B:D
# STATE     new here away lost gone                OWED   B:D from where it asked again, or -
HEAD='CURSOR EPOCH BORN BORN_EPOCH RECORDS MESSAGES SAID PEERS CAUSES'
ROW='P_ID[i] P_NAME[i] P_KIND[i] P_PUB[i] P_SIGN[i] P_STATE[i] P_PAIRED[i] P_STREAM[i] P_BASE[i] P_all[i] P_top_all[i]
  P_me[i] P_top_me[i] P_HOLE[i] P_HAS[i] P_OWED[i]'

load() { # the newest commit
  local i
  COMMIT=0 CURSOR=0 EPOCH=0 BORN=0 BORN_EPOCH=0 RECORDS=0 MESSAGES=0 SAID=0 PEERS=0 CAUSES='' ADDED=''
  [ ! -f "$S/head" ] || read -r COMMIT <"$S/head"
  is_decimal "$COMMIT" && [ -e "$S/log/$COMMIT" ] || COMMIT=0
  while [ -e "$S/log/$((COMMIT + 1))" ]; do ((COMMIT += 1)); done
  # shellcheck disable=SC2086,SC2229
  [ "$COMMIT" -eq 0 ] || { read -r $HEAD && for ((i = 0; i < PEERS; i++)); do read -r $ROW; done; } <"$S/log/$COMMIT"
}

commit() { # status 1: somebody was faster; load, and do it again
  local i field
  {
    for field in $HEAD; do printf '%s ' "${!field}"; done
    for ((i = 0; i < PEERS; i++)); do
      printf '\n'
      for field in $ROW; do printf '%s ' "${!field}"; done
    done
    printf '\n%supto %s\n' "$ADDED" "$RECORDS"
  } >"$TMP/commit$COMMIT" || disk_full
  if ! ln "$TMP/commit$COMMIT" "$S/log/$((COMMIT + 1))" 2>/dev/null; then
    [ -e "$S/log/$((COMMIT + 1))" ] || disk_full
    return 1
  fi
  ((COMMIT += 1))
  printf '%s\n' "$COMMIT" >"$S/head"
  ADDED=''
}

record() { # TYPE NAME WORDS: the next line of the conversation
  ((RECORDS += 1))
  ADDED="${ADDED}rec $RECORDS $1 $((NOW)) ${*:2}"$'\n'
}

tampered() { # CAUSE NAME: told once for each
  case " $CAUSES " in *" $1:$2 "*) return 0 ;; esac
  [ ${#CAUSES} -gt 2000 ] || { CAUSES="$CAUSES $1:$2" && record tampered "$2" "$1"; }
}

# Locks only save work: the log is right without them. Who holds one writes the time into it; where that stopped ten
# seconds ago the holder is dead or frozen, and the next one takes over. A pid would say nothing: each tool call of an
# agent may have pids of its own.
lock() { # NAME
  local owner='' at=''
  claim "$1" && return
  read -r owner at 2>/dev/null <"$S/$1.lock"
  [ "$owner" != "$TMP" ] || return 0
  is_decimal "$at" && [ $((NOW - at)) -le 10 ] && [ $((at - NOW)) -le 10 ] && return 1
  mv "$S/$1.lock" "$TMP/dead" 2>/dev/null
  claim "$1"
}

claim() { (set -C && printf '%s %s\n' "$TMP" $((NOW)) >"$S/$1.lock") 2>/dev/null; }

beat() { # NAME; status 1: it was taken over
  local owner=''
  read -r owner _ 2>/dev/null <"$S/$1.lock"
  [ "$owner" = "$TMP" ] && printf '%s %s\n' "$TMP" $((NOW)) >"$S/$1.lock"
}

unlock() { ! beat "$1" || rm -f "$S/$1.lock"; }

find_peer() { # COLUMN VALUE -> PEER, the newest row that has it
  local cell="$1[PEER]"
  for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do [ "${!cell}" != "$2" ] || return 0; done
  return 1
}

names() { # of those in the channel
  local i
  for ((i = 0; i < PEERS; i++)); do [ "${P_STATE[i]}" = gone ] || printf ' %s' "${P_NAME[i]}"; done
}

direct_key() { # PEER -> DIRECT, DIRECT_H; made once and kept
  local file=${P_PUB[$1]:36:40}
  file=$S/direct/${file//\//_}
  if [ ! -e "$file" ]; then
    DIRECT=$(shared_x "$S/ecdh.pem" "${P_PUB[$1]}")
    WHY=bad-key && is_hex "$DIRECT" 64 || return 1
    DIRECT="agentalk/1 direct $KEY $DIRECT"
    printf '%s\n%s\n' "$(hash_key "$DIRECT")" "$DIRECT" >"$TMP/direct" && mv "$TMP/direct" "$file" || disk_full
  fi
  { read -r DIRECT_H && read -r DIRECT; } <"$file"
}
