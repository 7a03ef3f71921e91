/**
 * The six programs: where their executable lies, how a person who uses them has set them up (nothing but what closes
 * telemetry, updates and the network, and names the test's model), the modes they are started in, their tools, and the
 * questions that they ask a person.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Call } from './dialects.ts';

export type ProgramName = 'codex' | 'claude' | 'gemini' | 'opencode' | 'copilot' | 'pi';

export interface ShellOptions {
  /** How long the model lets the tool run, where its tool takes that. */
  readonly seconds?: number;
  readonly isBackground?: boolean;
  /** Codex: run it outside the sandbox, which asks the person; and the rule to offer with that. */
  readonly outside?: readonly string[];
}

export interface Program {
  readonly title: string;
  /** Below the folder of its installation. */
  readonly executable: string;
  readonly shellTool: string;
  configure(home: string, modelUrl: string): void;
  environment(modelUrl: string): Readonly<Record<string, string>>;
  /** Flags by mode. Each has `default`, as a person starts it in a terminal, and `relaxed`: everything is allowed. */
  readonly modes: Readonly<Record<string, readonly string[]>>;
  headless(prompt: string, flags: readonly string[]): readonly string[];
  interactive(prompt: string, flags: readonly string[]): readonly string[];
  shell(command: string, options: ShellOptions): Call;
  /** The call that goes on with a command which its tool has left running. */
  goOn?(result: string): Call | undefined;
  readonly pageTool?: (url: string) => Call;
  /** Shows the first lines of a file. */
  readonly viewer?: (path: string, lines: number) => Call;
}

function write(path: string, content: unknown): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content, undefined, 1));
}

const MADE_UP_KEY = 'made-up-key-of-no-value';

const codex: Program = {
  title: 'Codex',
  executable: 'node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex',
  shellTool: 'exec_command',
  configure(home, modelUrl) {
    write(
      join(home, '.codex/config.toml'),
      `model = "gpt-5.5"
model_provider = "local"
check_for_update_on_startup = false
[analytics]
enabled = false
[feedback]
enabled = false
[otel]
exporter = "none"
[projects."/home/dev/project"]
trust_level = "trusted"
[model_providers.local]
name = "local"
base_url = "${modelUrl}/v1"
wire_api = "responses"
env_key = "LOCAL_KEY"
stream_idle_timeout_ms = 900000
request_max_retries = 0
stream_max_retries = 0
`,
    );
  },
  environment: () => ({ LOCAL_KEY: MADE_UP_KEY }),
  modes: {
    default: [],
    network: ['-s', 'workspace-write', '-c', 'sandbox_workspace_write.network_access=true'],
    'on-request': ['-a', 'on-request'],
    relaxed: ['--dangerously-bypass-approvals-and-sandbox'],
  },
  headless: (prompt, flags) => ['exec', '--skip-git-repo-check', '--json', ...flags, prompt],
  interactive: (prompt, flags) => [...flags, prompt],
  shell: (command, { seconds = 10, outside }) => ({
    name: 'exec_command',
    args: {
      cmd: command,
      yield_time_ms: Math.min(30, seconds) * 1000,
      ...(outside === undefined
        ? {}
        : {
            sandbox_permissions: 'require_escalated',
            justification: 'May I talk to the other agent over this bridge?',
            ...(outside.length > 0 ? { prefix_rule: outside } : {}),
          }),
    },
  }),
  goOn(result) {
    const [, session] = /Process running with session ID (\d+)/.exec(result) ?? [];
    const args = { session_id: Number(session), chars: '', yield_time_ms: 120_000 };
    return session === undefined ? undefined : { name: 'write_stdin', args };
  },
};

const claude: Program = {
  title: 'Claude Code',
  executable: 'node_modules/@anthropic-ai/claude-code-linux-x64/claude',
  shellTool: 'Bash',
  configure(home) {
    const known = { hasTrustDialogAccepted: true, hasCompletedProjectOnboarding: true };
    write(join(home, '.claude/settings.json'), { skipWebFetchPreflight: true });
    write(join(home, '.claude.json'), {
      hasCompletedOnboarding: true,
      theme: 'dark',
      customApiKeyResponses: { approved: [MADE_UP_KEY.slice(-20)], rejected: [] },
      projects: { '/home/dev/project': known },
      bypassPermissionsModeAccepted: true,
    });
  },
  environment: (modelUrl) => ({
    ANTHROPIC_BASE_URL: modelUrl,
    ANTHROPIC_API_KEY: MADE_UP_KEY,
    DISABLE_TELEMETRY: '1',
    DISABLE_AUTOUPDATER: '1',
    DISABLE_ERROR_REPORTING: '1',
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
  }),
  modes: {
    default: ['--permission-mode', 'default'],
    'with the rule': ['--permission-mode', 'default', '--allowedTools', 'Bash(./agentalk *)'],
    relaxed: ['--dangerously-skip-permissions'],
  },
  headless: (prompt, flags) => ['-p', '--output-format', 'stream-json', '--verbose', ...flags, '--', prompt],
  interactive: (prompt, flags) => [...flags, '--', prompt],
  shell: (command, { seconds, isBackground }) => ({
    name: 'Bash',
    args: {
      command,
      description: 'Talk to the other agent',
      ...(seconds === undefined ? {} : { timeout: seconds * 1000 }),
      ...(isBackground ? { run_in_background: true } : {}),
    },
  }),
  pageTool: (url) => ({ name: 'WebFetch', args: { url, prompt: 'Give the whole page, word for word' } }),
  viewer: (path, lines) => ({ name: 'Read', args: { file_path: path, limit: lines } }),
};

const gemini: Program = {
  title: 'Gemini CLI',
  executable: 'node_modules/.bin/gemini',
  shellTool: 'run_shell_command',
  configure(home) {
    write(join(home, '.gemini/settings.json'), {
      security: { auth: { selectedType: 'gemini-api-key' }, folderTrust: { enabled: false } },
      general: { disableAutoUpdate: true, enableAutoUpdate: false, enableAutoUpdateNotification: false },
      privacy: { usageStatisticsEnabled: false },
      telemetry: { enabled: false },
      model: { name: 'gemini-2.5-pro' },
    });
  },
  environment: (modelUrl) => ({
    GEMINI_API_KEY: MADE_UP_KEY,
    GOOGLE_GEMINI_BASE_URL: modelUrl,
    GEMINI_CLI_NO_RELAUNCH: 'true',
  }),
  modes: { default: [], relaxed: ['--yolo'] },
  headless: (prompt, flags) => [...flags, '--skip-trust', '-o', 'stream-json', '-p', prompt],
  interactive: (prompt, flags) => [...flags, '--skip-trust', '-i', prompt],
  shell: (command, { isBackground }) => ({
    name: 'run_shell_command',
    args: { command, description: 'Talk to the other agent', ...(isBackground ? { is_background: true } : {}) },
  }),
  pageTool: (url) => ({ name: 'web_fetch', args: { prompt: `Give the whole page, word for word: ${url}` } }),
  viewer: (path, lines) => ({ name: 'read_file', args: { file_path: path, start_line: 1, end_line: lines } }),
};

const opencode: Program = {
  title: 'opencode',
  executable: 'node_modules/opencode-linux-x64/bin/opencode',
  shellTool: 'bash',
  configure(home, modelUrl) {
    const model = (name: string) => ({ name, tool_call: true, limit: { context: 400_000, output: 30_000 } });
    write(join(home, '.config/opencode/opencode.json'), {
      autoupdate: false,
      share: 'disabled',
      model: 'local/scripted',
      small_model: 'local/small',
      provider: {
        local: {
          npm: '@ai-sdk/openai-compatible',
          name: 'local',
          options: { baseURL: `${modelUrl}/v1`, apiKey: MADE_UP_KEY },
          models: { scripted: model('scripted'), small: model('small') },
        },
      },
    });
  },
  environment: () => ({
    OPENCODE_DISABLE_AUTOUPDATE: '1',
    OPENCODE_DISABLE_MODELS_FETCH: '1',
    OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
    OPENCODE_DISABLE_DEFAULT_PLUGINS: '1',
  }),
  modes: { default: [], relaxed: ['--auto'] },
  headless: (prompt, flags) => ['run', '--format', 'json', ...flags, prompt],
  interactive: (prompt, flags) => [...flags, '--prompt', prompt],
  shell: (command, { seconds }) => ({
    name: 'bash',
    args: {
      command,
      description: 'Talk to the other agent',
      ...(seconds === undefined ? {} : { timeout: seconds * 1000 }),
    },
  }),
  pageTool: (url) => ({ name: 'webfetch', args: { url, format: 'markdown' } }),
  viewer: (path, lines) => ({ name: 'read', args: { filePath: path, limit: lines } }),
};

const copilot: Program = {
  title: 'Copilot CLI',
  executable: 'node_modules/@github/copilot-linux-x64/copilot',
  shellTool: 'bash',
  configure(home) {
    // COPILOT_OFFLINE closes its network, and it asks nothing at its first start but whether the folder is trusted.
    write(join(home, '.copilot/config.json'), { trusted_folders: ['/home/dev/project'], banner: 'never' });
  },
  environment: (modelUrl) => ({
    COPILOT_PROVIDER_BASE_URL: `${modelUrl}/v1`,
    COPILOT_PROVIDER_TYPE: 'openai',
    COPILOT_PROVIDER_API_KEY: MADE_UP_KEY,
    COPILOT_MODEL: 'scripted',
    COPILOT_OFFLINE: 'true',
    COPILOT_AUTO_UPDATE: 'false',
  }),
  modes: { default: [], 'with the rule': ['--allow-tool', 'shell(./agentalk)'], relaxed: ['--allow-all'] },
  headless: (prompt, flags) => [...COPILOT_QUIET, '--output-format', 'json', ...flags, '-p', prompt],
  interactive: (prompt, flags) => [...COPILOT_QUIET, ...flags, '-i', prompt],
  shell: (command, { seconds, isBackground }) => ({
    name: 'bash',
    args: {
      command,
      description: 'Talk to the other agent',
      ...(isBackground ? { mode: 'async' } : {}),
      ...(seconds === undefined ? {} : { initial_wait: seconds }),
    },
  }),
  goOn(result) {
    const [, shellId] = /command with shellId: (\S+) is still running/.exec(result) ?? [];
    return shellId === undefined ? undefined : { name: 'read_bash', args: { shellId, delay: 60 } };
  },
  pageTool: (url) => ({ name: 'web_fetch', args: { url } }),
  viewer: (path, lines) => ({ name: 'view', args: { path, view_range: [1, lines] } }),
};

const COPILOT_QUIET = ['--no-auto-update', '--disable-client-telemetry', '--disable-builtin-mcps'];

const pi: Program = {
  title: 'pi',
  executable: 'node_modules/.bin/pi',
  shellTool: 'bash',
  configure(home, modelUrl) {
    const model = {
      id: 'scripted',
      name: 'scripted',
      reasoning: false,
      input: ['text'],
      contextWindow: 400_000,
      maxTokens: 30_000,
      cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
    };
    const provider = { baseUrl: `${modelUrl}/v1`, api: 'openai-completions', apiKey: MADE_UP_KEY, models: [model] };
    write(join(home, '.pi/agent/models.json'), { providers: { local: provider } });
  },
  environment: () => ({ PI_SKIP_VERSION_CHECK: '1', PI_OFFLINE: '1', PI_TELEMETRY: '0' }),
  modes: { default: [], relaxed: [] },
  headless: (prompt, flags) => [...PI_MODEL, ...flags, '--mode', 'json', '-p', prompt],
  interactive: (prompt, flags) => [...PI_MODEL, ...flags, prompt],
  shell: (command, { seconds }) => ({
    name: 'bash',
    args: { command, ...(seconds === undefined ? {} : { timeout: seconds }) },
  }),
  viewer: (path, lines) => ({ name: 'read', args: { path, limit: lines } }),
};

const PI_MODEL = ['--provider', 'local', '--model', 'scripted'];

export const PROGRAMS: Readonly<Record<ProgramName, Program>> = { codex, claude, gemini, opencode, copilot, pi };
