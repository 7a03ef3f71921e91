#!/usr/bin/env bash
# Git Bash: `openssl` is a native Windows program there, and ends its lines of text with CR LF. Real: Git for Windows puts
# /mingw64/bin first; openssl/openssl #28996, #11035. The stub does what OpenSSL 3.0.22's openssl.exe does under wine.
set -u; D=$(mktemp -d); trap 'rm -rf "$D"' EXIT; export REAL_OPENSSL; REAL_OPENSSL=$(command -v openssl)
cat >"$D/openssl" <<'S'
#!/bin/bash
case " $* " in *" enc "* | *" base64 "* | *" -derive "* | *" -outform DER "*) exec "$REAL_OPENSSL" "$@" ;; esac
set -o pipefail; "$REAL_OPENSSL" "$@" | /bin/sed 's/$/\r/'
S
chmod +x "$D/openssl"; export AGENTALK_HOME=$D/s
out=$(PATH=$D:$PATH bash "$CLIENT" create "$BRIDGE" --name a 2>&1); printf '%s\n' "$out" | head -1
link=$(grep -o 'http[^ ]*#k=[^ ]*' <<<"$out" | head -1); [ -n "$link" ] || exit 1
bash "$CLIENT" join "$link" --name b >/dev/null 2>&1; bash -c ". $D/s/agentalk-session-b.env; agentalk_say hello" >/dev/null
PATH=$D:$PATH bash -c ". $D/s/agentalk-session-a.env; agentalk_wait 10; agentalk_wait 3" | tee "$D/out"; grep -q '| hello' "$D/out"
