# ---- http: one request, and what its answer means ----

set_bridge() { # URL as a person gives it -> BRIDGE
  BRIDGE=${1%%#*} BRIDGE=${BRIDGE%/}
  case $BRIDGE in
    http://* | https://*) ;;
    127.0.0.1* | localhost* | '[::1]'*) BRIDGE=http://$BRIDGE ;;
    *) BRIDGE=https://$BRIDGE ;;
  esac
  case ${BRIDGE#*://} in '' | *[!A-Za-z0-9._~:/%\[\]-]*) fail "that is no bridge URL: it looks like https://bridge.example" ;; esac
}

# Asks for /channels/CHANNEL and PATH. The answer is text, in $TMP/answer (docs/protocol.md); its last line must start
# with WORD, or it was cut off, and leaves its other words in A1 to A4. Status 1: CODE, MESSAGE, and RETRY (seconds).
# Tokens reach curl in a file. An answer of more than 16 MiB ends the transfer.
request() { # WORD METHOD PATH [BODY_FILE [TOKEN_FILE [SECONDS]]]
  local status='' failed=0 word='' last='' a b c d
  CODE=unreachable RETRY='' MESSAGE="the answer of $BRIDGE was cut off or makes no sense"
  : >"$TMP/answer" && : >"$TMP/headers" || disk_full
  if [ -n "${WATCH:-}" ]; then watched "$@"; else status=$(transfer "$@"); fi 2>"$TMP/trouble" || failed=$?
  status=${status%% *}
  case $failed:$status in
    0:2??)
      while read -r word a b c d _; do last=$word A1=$a A2=$b A3=$c A4=$d; done <"$TMP/answer"
      [ "$last" = "$1" ]
      return
      ;;
    0:*) read -r word CODE MESSAGE <"$TMP/answer" ;;
    6:*) MESSAGE="its name is not known here: a typing error, or no network in this sandbox until your user allows it" ;;
    7:*) MESSAGE="nothing answers there: it is down, or this sandbox has no network until your user allows it" ;;
    *) read -r _ _ MESSAGE <"$TMP/trouble" && MESSAGE="$MESSAGE (curl $failed; a private authority goes in with --cacert FILE)" ;;
  esac
  [ "$failed" -eq 0 ] || MESSAGE="can't reach $BRIDGE: $MESSAGE"
  case $failed:$word:$CODE in 0:error:*[!a-z_]* | 0:[!e]* | 0:*:) CODE='' MESSAGE="$BRIDGE answered $status: it is no agentalk bridge" ;; esac
  MESSAGE=${MESSAGE//[!\ -~]/?} MESSAGE=${MESSAGE:0:300} MESSAGE=${MESSAGE%.}
  RETRY=$(sed -n 's/^[Rr][Ee][Tt][Rr][Yy]-[Aa][Ff][Tt][Ee][Rr]: *\([0-9]\{1,4\}\).*/\1/p' "$TMP/headers")
  return 1
}

transfer() { # as request; prints the HTTP status
  local more=()
  [ -z "${4:-}" ] || more=(-H 'Content-Type: application/json' -H 'Expect:' --data-binary "@$4")
  [ -z "$CACERT" ] || more+=(--cacert "$CACERT")
  ulimit -f 16384
  exec curl -q -sS --globoff --max-time "${6:-15}" -X "$2" -K "$S/${5:-token}" -H 'Accept: text/plain' ${more[@]+"${more[@]}"} \
    -D "$TMP/headers" -o "$TMP/answer" -w "%{http_code} $POLL\n" "$BRIDGE/channels/$CHANNEL$3"
}

# A long poll. The lock's beat goes on meanwhile; and a guard that hears our end of its pipe close ends the curl with
# us, even after kill -9: nobody may look as if they listened who doesn't.
watched() { # as request -> status
  local pid last number
  if [ -z "$GUARDED" ]; then
    mkfifo "$TMP/status" && exec 4<>"$TMP/status" || disk_full
    exec 5> >(
      exec 4<&- && trap '' INT HUP TERM && while read -r pid; do last=$pid; done
      kill "$last" 2>/dev/null
    )
    GUARDED=yes
  fi
  ((POLL += 1)) # an answer that comes when its poll was given up is not taken for the next one's
  transfer "$@" >&4 5>&- &
  CURL=$!
  printf '%s\n' "$CURL" >&5
  until read -r -t 2 status number <&4 && [ "$number" = "$POLL" ]; do
    beat "$WATCH" && kill -0 "$CURL" 2>/dev/null || {
      kill "$CURL" 2>/dev/null
      break
    }
  done
  pid=$CURL CURL=''
  wait "$pid" 2>/dev/null
}
