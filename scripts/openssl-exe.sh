#!/usr/bin/env bash
# Builds an openssl.exe for Windows from Debian's source of OpenSSL, for tests that run it under wine: as root on Debian, in
# about five minutes. Prints its path. What was built once is kept in ~/.cache/agentalk.
set -euo pipefail

folder=${XDG_CACHE_HOME:-$HOME/.cache}/agentalk/openssl-exe
if [ ! -x "$folder/openssl.exe" ]; then
	export DEBIAN_FRONTEND=noninteractive
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	exec 3>&1 >&2
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends gcc-mingw-w64-x86-64 make perl wine wine64
	# The lists of sources are read from a separate folder: those of the system stay as they are.
	mkdir -p "$work/lists/partial" "$work/parts" "$work/source"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ ! -f "$file" ] || sed 's/^Types: deb$/Types: deb-src/; s/^deb /deb-src /' "$file" >"$work/parts/${file##*/}"
	done
	[ ! -e "$work/parts/sources.list" ] || mv "$work/parts/sources.list" "$work/parts/main.list"
	options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists"
		-o APT::Sandbox::User=root)
	apt-get "${options[@]}" update -qq
	# Only upstream's archive is needed.
	(cd "$work" && apt-get "${options[@]}" source --download-only --tar-only openssl)
	tar -xf "$work"/openssl_*.orig.tar.gz -C "$work/source" --strip-components=1
	cd "$work/source"
	# Without what agentalk does not use: that is most of the time.
	./Configure mingw64 --cross-compile-prefix=x86_64-w64-mingw32- -O1 no-shared no-tests no-legacy no-engine no-dtls \
		no-cms no-ts no-srp no-ocsp no-ct no-cmp no-comp no-sm2 no-sm3 no-sm4 no-aria no-camellia no-idea no-seed no-bf \
		no-cast no-rc2 no-rc4 no-md4 no-mdc2 no-whirlpool no-rmd160
	make build_generated >/dev/null
	make -j"$(nproc)" apps/openssl.exe >/dev/null
	mkdir -p "$folder"
	cp apps/openssl.exe "$folder/"
	exec >&3
fi
echo "$folder/openssl.exe"
