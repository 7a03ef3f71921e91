#!/bin/sh
# Puts an agentalk bridge onto a Debian or Ubuntu machine, as a systemd service. Run it as root, in a checkout that has
# been built (npm run build), or in any folder that has bridge.js and the files of deploy/systemd beside this script.
#
#     sh install.sh                 install; a second time it changes nothing
#     sh install.sh --dry-run       say what that would do
#     sh install.sh upgrade         put the newer bridge.js in its place and keep the older one
#     sh install.sh rollback        change the two over
#     sh install.sh uninstall       take it away again; /etc/agentalk stays
#
# What there is afterwards:
#
#     /usr/local/lib/agentalk/bridge.js              the bridge, and bridge.js.previous after an upgrade
#     /etc/systemd/system/agentalk.service           one bridge
#     /etc/systemd/system/agentalk@.service          several, by port; not started
#     /etc/systemd/system/agentalk.socket            the address, held by systemd; not started
#     /etc/agentalk/bridge.env                       settings; never overwritten
#     the system user agentalk, which owns nothing
#
# It downloads nothing.

set -eu

usage() {
	cat <<'END'
Usage: sh install.sh [install | upgrade | rollback | uninstall] [OPTION]…

  --bridge FILE      the bridge.js to put there (dist/bridge.js of this checkout, or the one beside this script)
  --node PATH        the Node to run it with, 20 or later (the first that is found)
  --public-url URL   where clients will reach it; goes into a new bridge.env
  --root DIR         put everything under DIR; make no user, start nothing
  --dry-run          change nothing, print what would be done
  --help             what you read
END
}

say() {
	printf 'agentalk: %s\n' "$*"
}

fail() {
	printf 'agentalk: error: %s\n' "$*" >&2
	exit 1
}

# Does it, or says what it would do.
run() {
	if [ "$DRY_RUN" = yes ]; then
		printf '  %s\n' "$*"
	else
		"$@"
	fi
}

# ---- what is needed ----

# An absolute PATH without any character that means something to systemd or sed; a Node of 20 or later.
is_good_node() { # PATH
	case $1 in
		/*) ;;
		*) return 1 ;;
	esac
	case $1 in
		*[!A-Za-z0-9/._+-]*) return 1 ;;
	esac
	[ -x "$1" ] && major=$("$1" -p 'process.versions.node.split(".")[0]' 2>/dev/null) && [ "$major" -ge 20 ] 2>/dev/null
}

# Homes are closed to the service (ProtectHome), whatever links lead there.
is_at_home() { # PATH
	case $(readlink -f "$1") in
		/home/* | /root/* | /run/user/*) return 0 ;;
		*) return 1 ;;
	esac
}

find_node() {
	if [ -n "$NODE" ]; then
		is_good_node "$NODE" || fail "$NODE is no Node of 20 or later, by its whole path"
		! is_at_home "$NODE" || fail "$NODE lies in a home, which the service can't see: install Node for all users"
		return
	fi
	for NODE in /usr/bin/node /usr/bin/nodejs /usr/local/bin/node /opt/node/bin/node "$(command -v node || :)"; do
		if is_good_node "$NODE" && ! is_at_home "$NODE"; then return; fi
	done
	fail "no Node of 20 or later. Debian 13 and later have one: apt-get install nodejs. Or unpack the archive of \
nodejs.org into /opt/node, or give --node PATH"
}

find_bridge() {
	if [ -z "$BRIDGE" ]; then
		for BRIDGE in "$HERE/../dist/bridge.js" "$HERE/bridge.js"; do
			[ ! -f "$BRIDGE" ] || break
		done
	fi
	[ -f "$BRIDGE" ] || fail "no bridge.js: npm run build makes it, or give --bridge FILE"
	# Is it one, and does this Node run it? Before anything that works is touched.
	VERSION=$("$NODE" "$BRIDGE" --version 2>/dev/null) || fail "$NODE $BRIDGE --version doesn't run: half a file?"
}

find_units() {
	for UNITS in "$HERE/systemd" "$HERE"; do
		[ ! -f "$UNITS/agentalk@.service" ] || return 0
	done
	fail "agentalk.service, agentalk@.service and bridge.env are not beside this script, nor in systemd/ there"
}

# ---- putting things in their places ----

# A file that is the same already stays as it is. Otherwise it is there whole or not at all. Status 1: nothing to do.
put() { # FILE PLACE
	if cmp -s "$1" "$ROOT$2"; then return 1; fi
	say "$2"
	[ "$DRY_RUN" = no ] || return 0
	mkdir -p "$ROOT${2%/*}"
	cp "$1" "$ROOT$2.new"
	chmod 644 "$ROOT$2.new"
	mv -f "$ROOT$2.new" "$ROOT$2"
}

put_bridge() {
	if [ -f "$ROOT$PROGRAM" ] && ! cmp -s "$BRIDGE" "$ROOT$PROGRAM"; then
		say "the one that was there stays as $PROGRAM.previous"
		run cp -p "$ROOT$PROGRAM" "$ROOT$PROGRAM.previous"
	fi
	put "$BRIDGE" "$PROGRAM" && CHANGED=yes
	return 0
}

# With the Node that was found, and the right to run it where that isn't under /usr.
put_units() {
	scratch=$(mktemp -d)
	for unit in agentalk.service agentalk@.service; do
		from=$UNITS/$unit
		[ -f "$from" ] || from=$HERE/../$unit
		sed "s|^ExecStart=/usr/bin/node |ExecStart=$NODE |" "$from" >"$scratch/$unit"
		case $(readlink -f "$NODE") in
			/usr/*) ;;
			*) sed -i "s|^ExecPaths=.*|& $(dirname "$(readlink -f "$NODE")")|" "$scratch/$unit" ;;
		esac
		put "$scratch/$unit" "/etc/systemd/system/$unit" && CHANGED=yes
	done
	put "$UNITS/agentalk.socket" /etc/systemd/system/agentalk.socket && CHANGED=yes
	rm -r "$scratch"
}

put_settings() {
	if [ -f "$ROOT$SETTINGS" ]; then
		say "$SETTINGS stays as it is${PUBLIC_URL:+: to change the URL, edit AGENTALK_PUBLIC_URL there, then systemctl restart agentalk}"
		return
	fi
	scratch=$(mktemp -d)
	cp "$UNITS/bridge.env" "$scratch/env"
	[ -z "$PUBLIC_URL" ] || sed -i "s|^#AGENTALK_PUBLIC_URL=.*|AGENTALK_PUBLIC_URL=$PUBLIC_URL|" "$scratch/env"
	put "$scratch/env" "$SETTINGS" && CHANGED=yes
	rm -r "$scratch"
}

make_user() {
	if [ -n "$ROOT" ]; then
		say "under $ROOT no user is made"
	elif ! getent passwd agentalk >/dev/null; then
		say "the system user agentalk"
		run useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin agentalk
	fi
}

# ---- the service ----

systemd_runs() {
	[ -z "$ROOT" ] && [ -d /run/systemd/system ]
}

# The bridges that run now: agentalk.service and instances of agentalk@.service.
running_units() {
	systemctl list-units --plain --no-legend --state=active 'agentalk.service' 'agentalk@*.service' | cut -d ' ' -f 1
}

# One after the other, each until it runs again, so that a group behind a load balancer is never gone as a whole.
restart_all() {
	for unit in $(running_units); do
		say "restarting $unit"
		run systemctl restart "$unit"
		run sleep 5
		run systemctl --quiet is-active "$unit" || fail "$unit doesn't run: journalctl -u $unit. Back to what was: sh install.sh rollback"
	done
}

start() {
	if ! systemd_runs; then
		say "systemd doesn't run here, so nothing was started. Later: systemctl enable --now agentalk"
	elif [ -z "$(running_units)" ]; then
		run systemctl daemon-reload
		run systemctl enable --now agentalk.service
		say "it runs: systemctl status agentalk"
	elif [ "$CHANGED" = yes ]; then
		run systemctl daemon-reload
		restart_all
	else
		say "it runs, and nothing has changed"
	fi
}

# ---- the commands ----

install() {
	find_node
	find_bridge
	find_units
	say "$VERSION, to be run by $NODE"
	make_user
	put_bridge
	put_units
	put_settings
	start
}

upgrade() {
	[ -f "$ROOT$PROGRAM" ] || fail "nothing is installed that could be upgraded: sh install.sh"
	install
}

rollback() {
	[ -f "$ROOT$PROGRAM.previous" ] || fail "there is no $PROGRAM.previous to go back to"
	run mv -f "$ROOT$PROGRAM" "$ROOT$PROGRAM.newer"
	run mv -f "$ROOT$PROGRAM.previous" "$ROOT$PROGRAM"
	run mv -f "$ROOT$PROGRAM.newer" "$ROOT$PROGRAM.previous"
	say "the two have changed over; once more brings the newer one back"
	! systemd_runs || restart_all
}

uninstall() {
	if systemd_runs; then
		for unit in $(running_units) agentalk.socket agentalk.service; do
			run systemctl disable --now "$unit" || :
		done
	fi
	for unit in agentalk.service agentalk@.service agentalk.socket; do run rm -f "$ROOT/etc/systemd/system/$unit"; done
	run rm -rf "$ROOT${PROGRAM%/*}"
	! systemd_runs || run systemctl daemon-reload
	if [ -z "$ROOT" ] && getent passwd agentalk >/dev/null; then run userdel agentalk; fi
	say "gone, but for your settings. Those, too: rm -r $ROOT${SETTINGS%/*}"
}

main() {
	HERE=$(cd "$(dirname "$0")" && pwd)
	PROGRAM=/usr/local/lib/agentalk/bridge.js SETTINGS=/etc/agentalk/bridge.env
	COMMAND=install BRIDGE='' NODE='' ROOT='' PUBLIC_URL='' DRY_RUN=no CHANGED=no
	while [ $# -gt 0 ]; do
		case $1 in
			install | upgrade | rollback | uninstall) COMMAND=$1 ;;
			--dry-run) DRY_RUN=yes ;;
			--help | -h) usage && exit ;;
			--bridge | --node | --root | --public-url)
				[ -n "${2:-}" ] || fail "$1 needs a value"
				case $1 in
					--bridge) BRIDGE=$2 ;;
					--node) NODE=$2 ;;
					--root) ROOT=${2%/} ;;
					*) PUBLIC_URL=$2 ;;
				esac
				shift
				;;
			*) fail "what is $1? sh install.sh --help" ;;
		esac
		shift
	done
	case $PUBLIC_URL in
		'' | http://?* | https://?*) ;;
		*) fail "--public-url looks like https://bridge.example" ;;
	esac
	case $PUBLIC_URL in
		*[!A-Za-z0-9:/._~-]*) fail "--public-url has a character that is in no bridge's address" ;;
	esac
	if [ -n "$ROOT" ]; then
		[ "$DRY_RUN" = yes ] || mkdir -p "$ROOT"
	elif [ "$DRY_RUN" = no ] && [ "$(id -u)" -ne 0 ]; then
		fail "this needs root: sudo sh install.sh, or --dry-run to see what it would do"
	fi
	[ "$DRY_RUN" = no ] || say "this would be done:"
	"$COMMAND"
}

main "$@"
