#!/usr/bin/env bash
# cell.sh NODE PROGRAMS HOME NAME=VALUE… -- COMMAND…
#
# Runs COMMAND as an ordinary user in a cell: processes, mounts, IPC and host name of its own, no capability, and an
# environment made of the given values alone. Of this machine it sees the system (/usr, /etc, /proc, /dev, /sys, /var),
# the file NODE, the folder PROGRAMS (read-only) and the folder HOME; everything else is empty. Call it as root inside a
# network namespace that has nothing but loopback: it refuses to start anywhere else.
set -euo pipefail

make_cell() { # inside the new namespaces, as their root
	local node=$1 programs=$2 home=$3 folder
	mount --make-rprivate /
	mount -t tmpfs -o mode=755 cell /mnt
	mkdir /mnt/programs /mnt/home
	: >/mnt/node
	mount --bind "$node" /mnt/node
	mount --bind "$programs" /mnt/programs
	mount --bind "$home" /mnt/home
	for folder in /* /dev/shm /var/tmp; do
		case $folder in
			/bin | /dev | /etc | /lib* | /mnt | /proc | /sbin | /sys | /usr | /var) continue ;;
		esac
		[ -d "$folder" ] && [ ! -L "$folder" ] || continue
		mount -t tmpfs -o mode=755 cell "$folder"
	done
	chmod 1777 /tmp /var/tmp /dev/shm
	mkdir -p /opt/bin /opt/programs /home/dev
	: >/opt/bin/node
	mount --bind /mnt/node /opt/bin/node
	mount --bind /mnt/programs /opt/programs
	mount -o remount,bind,ro /opt/programs
	mount --bind /mnt/home /home/dev
	printf '%s\n' root:x:0:0::/root:/bin/sh dev:x:1000:1000::/home/dev:/bin/bash >/run/passwd
	printf '%s\n' root:x:0: dev:x:1000: >/run/group
	printf '%s\n' '127.0.0.1 localhost cell' >/run/hosts
	mount --bind /run/passwd /etc/passwd
	mount --bind /run/group /etc/group
	mount --bind /run/hosts /etc/hosts
	hostname cell
	umount -l /mnt
	mount -t tmpfs -o mode=755 cell /mnt
}

if [ "${1:-}" = --inside ]; then
	shift
	make_cell "$1" "$2" "$3"
	shift 3
	values=()
	while [ "$1" != -- ]; do
		values+=("$1")
		shift
	done
	shift
	cd /home/dev/project
	# This shell stays, as the process 1 that takes in orphans.
	status=0
	setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
		env -i HOME=/home/dev USER=dev LOGNAME=dev SHELL=/bin/bash LANG=C.UTF-8 TERM="${TERM:-dumb}" \
		PATH=/opt/bin:/usr/local/bin:/usr/bin:/bin "${values[@]}" "$@" || status=$?
	exit "$status"
fi

networks=$(ip -o link show | cut -d: -f2 | tr -d ' \n')
[ "$networks" = lo ] || { echo "cell.sh: there is a network here ($networks): no program is started" >&2 && exit 1; }
exec unshare --mount --pid --fork --kill-child --mount-proc --ipc --uts "$0" --inside "$@"
