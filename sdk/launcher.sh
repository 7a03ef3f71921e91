#!/usr/bin/env bash
# Starts agentalk.sh next to it. It is small, so that a program that asks before each command can keep one rule for it.
here=${0%/*}
[ "$here" != "$0" ] || here=.
exec "$BASH" -p "$here/agentalk.sh" "$@"
