/**
 * The programs of Git Bash on Windows, as far as they differ from those of Unix. There openssl and curl are native
 * programs: openssl ends lines of text with CR LF, neither can open /dev/fd/N, and both find the files of a shell only
 * because it translates their paths, unless two variables forbid that.
 *
 * AGENTALK_TEST_OPENSSL_EXE names a real openssl.exe, which wine runs (scripts/openssl-exe.sh builds one). Without it a
 * stand-in does what is said above to the openssl that is here.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const OPENSSL_EXE = process.env['AGENTALK_TEST_OPENSSL_EXE'] ?? '';

const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

/** What any native program does: it can't open descriptors by name, nor files whose paths were not translated. */
const NATIVE = `#!/bin/bash
arguments=()
for word in "$@"; do
	case $word in /dev/fd/* | @/dev/fd/*) word=C:/no/such/file ;; esac
	[[ -z \${MSYS_NO_PATHCONV+set}\${MSYS2_ARG_CONV_EXCL+set} || $word != *(@)/tmp/* ]] || word=C:/no/such/file
	arguments+=("$word")
done
export PATH=/usr/local/bin:/usr/bin:/bin
`.replace('arguments=()', 'shopt -s extglob\narguments=()');

const STAND_IN = (openssl: string) => `${NATIVE}
out=''
for ((i = 0; i < \${#arguments[@]}; i++)); do [ "\${arguments[i]}" != -out ] || out=\${arguments[i + 1]}; done
case " \${arguments[*]} " in
	*' enc '* | *' base64 '* | *' -derive '* | *' -outform DER '* | *' -sign '*) exec ${openssl} "\${arguments[@]}" ;;
esac
set -o pipefail
${openssl} "\${arguments[@]}" | sed 's/$/\\r/'
status=$?
[ -z "$out" ] || sed -i 's/$/\\r/' "$out"
exit $status
`;

/**
 * Puts `openssl` and `curl` of Git Bash into a folder.
 *
 * @param folder is made; to be the first of a PATH
 * @param find where a program of this machine is
 */
export function installWindowsPrograms(folder: string, find: (program: string) => string): void {
  mkdirSync(folder, { recursive: true });
  const wine = `${NATIVE}\nexport WINEDEBUG=-all HOME=${quote(process.env['HOME'] ?? '/')}\nexec wine ${quote(OPENSSL_EXE)} "\${arguments[@]}"\n`;
  const programs = {
    openssl: OPENSSL_EXE ? wine : STAND_IN(quote(find('openssl'))),
    curl: `${NATIVE}\nexec ${quote(find('curl'))} "\${arguments[@]}"\n`,
  };
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(folder, name), script);
    chmodSync(join(folder, name), 0o755);
  }
}
