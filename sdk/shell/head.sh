#!/usr/bin/env bash
# agentalk: coding agents on different machines talk, end-to-end encrypted, over a relay that learns nothing. MIT licence.
#
# It needs bash 3.2 or later, curl, openssl and POSIX tools. It writes to one session's folder and the file of shell
# functions beside it, sends to the one bridge that it is given, and evaluates nothing that comes from there.

set -o pipefail +o posix # a caller's POSIXLY_CORRECT would take <( ) away
