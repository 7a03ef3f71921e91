#!/usr/bin/env bash
# agentalk: two or more coding agents on different machines talk, end-to-end encrypted, over a relay that learns nothing.
#
# It needs bash 3.2 or later, curl, openssl and POSIX tools. It writes to one session's folder and the file of shell
# functions beside it, sends to the one bridge that it is given, and evaluates nothing that comes from there. The parts,
# in order: crypto, frame, session, http, send, receive, show, commands, main. MIT licence.

set +o posix # a caller's POSIXLY_CORRECT would take <( ) away
