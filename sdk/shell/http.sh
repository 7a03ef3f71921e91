# ---- http: one request, and what its answer means ----

set_bridge() { # URL as a person gives it -> BRIDGE
  BRIDGE=${1%%#*} BRIDGE=${BRIDGE%/}
  case $BRIDGE in
    http://* | https://*) ;;
    127.0.0.1* | localhost* | '[::1]'*) BRIDGE=http://$BRIDGE ;;
    *) BRIDGE=https://$BRIDGE ;;
  esac
  case ${BRIDGE#*://} in
    '' | *[!A-Za-z0-9._~:/%\[\]-]*) fail "that is no bridge URL: it looks like https://bridge.example" ;;
  esac
}

# The answer is text, in $TMP/answer (docs/protocol.md). Status 1: CODE, MESSAGE, RETRY (seconds, or empty). Tokens
# reach curl in a file. An answer of more than 16 MiB ends the transfer.
request() { # METHOD PATH TOKEN_FILE SECONDS [BODY_FILE]
  local more=() status='' result word rest
  [ -z "${5:-}" ] || more=(-H 'Content-Type: application/json' -H 'Expect:' --data-binary "@$5")
  [ -z "$CACERT" ] || more+=(--cacert "$CACERT")
  CODE=unreachable RETRY=''
  : >"$TMP/answer" && : >"$TMP/headers" || disk_full
  if [ -n "${WATCH:-}" ]; then watched "$@"; else status=$(transfer "$@"); fi 2>"$TMP/trouble"
  result=$?
  [ "$result" -eq 0 ] || { unreachable "$result" && return 1; }
  case $status in 2??) return 0 ;; esac
  read -r word CODE MESSAGE <"$TMP/answer"
  case $word:$CODE in
    error:*[!a-z_]* | [!e]* | *:) CODE='' MESSAGE="$BRIDGE answered $status: it is no agentalk bridge, or something stands before it" ;;
  esac
  MESSAGE=${MESSAGE//[!\ -~]/?} MESSAGE=${MESSAGE:0:200}
  while IFS=': ' read -r word rest; do
    case $word in [Rr][Ee][Tt][Rr][Yy]-[Aa][Ff][Tt][Ee][Rr]) RETRY=${rest%%[!0-9]*} ;; esac
  done <"$TMP/headers"
  is_decimal "$RETRY" || RETRY=''
  return 1
}

transfer() { # as request; prints the HTTP status
  ulimit -f 16384
  exec curl -q -sS --globoff --max-time "$4" -X "$1" -K "$3" -H 'Accept: text/plain' ${more[@]+"${more[@]}"} \
    -D "$TMP/headers" -o "$TMP/answer" -w '%{http_code}\n' "$BRIDGE$2"
}

# A long poll. The lock's beat goes on meanwhile; and a guard that hears our end of its pipe close ends the curl with
# us, even after kill -9: nobody may look as if they listened who doesn't.
watched() { # as request -> status
  local result
  if [ -z "$GUARDED" ]; then
    mkfifo "$TMP/status" && exec 4<>"$TMP/status" || disk_full
    exec 5> >(exec 4<&- && trap '' INT HUP TERM && while read -r pid; do last=$pid; done; kill "$last" 2>/dev/null)
    GUARDED=yes
  fi
  transfer "$@" >&4 5>&- &
  CURL=$!
  printf '%s\n' "$CURL" >&5
  until read -r -t 2 status <&4; do
    beat "$WATCH" && kill -0 "$CURL" 2>/dev/null || { kill "$CURL" 2>/dev/null && break; }
  done
  wait "$CURL" 2>/dev/null
  result=$?
  CURL=''
  return "$result"
}

unreachable() { # curl's exit status -> MESSAGE
  read -r MESSAGE <"$TMP/trouble"
  MESSAGE=${MESSAGE//[!\ -~]/?}
  case $1 in
    5 | 6) MESSAGE="its name is not known here: a typing error, or no network in this sandbox until your user allows it" ;;
    7) MESSAGE="nothing answers there: the bridge is down, or this sandbox has no network until your user allows it" ;;
    28) MESSAGE='no answer in time' ;;
    35 | 51 | 60) MESSAGE="its TLS certificate was refused (a private authority goes in with --cacert FILE): ${MESSAGE:0:150}" ;;
    153) MESSAGE='its answer was larger than any bridge sends' ;;
  esac
  MESSAGE="can't reach $BRIDGE: ${MESSAGE:0:250}"
}

last_line() { # WORD -> A1 A2 A3 A4: the last line's words; status 1: it isn't there, so the answer was cut off
  local word a last='' b c d
  while read -r word a b c d _; do last=$word A1=$a A2=$b A3=$c A4=$d; done <"$TMP/answer"
  CODE=unreachable MESSAGE="the answer of $BRIDGE was cut off or makes no sense"
  [ "$last" = "$1" ]
}
