/**
 * The four ways in which coding agents speak to a model: OpenAI's Responses and Chat Completions, Anthropic's Messages
 * and Google's generateContent. Each reads what a program asked, and writes one answer, as a whole or as events.
 */

/** A tool that the model uses. `input` stands for `args` where the tool takes plain text. */
export interface Call {
  readonly name: string;
  readonly args?: Readonly<Record<string, unknown>>;
  readonly input?: string;
}

/** What the model does next: it says something, or uses tools, or both. */
export interface Action {
  readonly text?: string;
  readonly calls?: readonly Call[];
}

export interface Message {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly text: string;
}

export interface Tool {
  readonly name: string;
  readonly description?: string;
}

export interface Asked {
  readonly tools: readonly Tool[];
  readonly messages: readonly Message[];
  readonly isStream: boolean;
}

export interface Answer {
  readonly whole: unknown;
  readonly events: readonly string[];
}

export interface Dialect {
  matches(path: string): boolean;
  read(body: Json, path: string): Asked;
  write(action: Action, id: string): Answer;
}

/** What JSON.parse gave: looked into with the functions below only. */
export type Json = Readonly<Record<string, unknown>>;

const objects = (value: unknown): readonly Json[] => (Array.isArray(value) ? (value as Json[]) : []);
const string = (value: unknown): string => (typeof value === 'string' ? value : '');

/** All the text in a piece of content, however deep it lies. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (Array.isArray(content)) return content.map(textOf).join('\n');
  if (typeof content !== 'object' || content === null) return '';
  const { text, output, content: inner, parts, error } = content as Json;
  const found = [text, output, inner, parts, error].find((each) => each !== undefined);
  return found === undefined ? JSON.stringify(content) : textOf(found);
}

const roleOf = (role: unknown): Message['role'] =>
  role === 'assistant' || role === 'model' ? 'assistant' : role === 'user' || role === 'tool' ? role : 'system';

const event = (name: string, data: unknown) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
const dataOnly = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;

const responses: Dialect = {
  matches: (path) => path.endsWith('/responses'),
  read(body) {
    const items =
      typeof body['input'] === 'string' ? [{ role: 'user', content: body['input'] }] : objects(body['input']);
    const messages = items.flatMap((item: Json): Message[] => {
      const type = string(item['type']);
      if (type.endsWith('_call_output')) return [{ role: 'tool', text: textOf(item['output']) }];
      if (type.endsWith('_call')) return [{ role: 'assistant', text: '' }];
      return item['role'] === undefined ? [] : [{ role: roleOf(item['role']), text: textOf(item['content']) }];
    });
    const added = items.filter((item: Json) => item['type'] === 'additional_tools').map((item: Json) => item['tools']);
    const tools = [body['tools'], ...added]
      .flatMap(objects)
      .flatMap((tool) => (tool['type'] === 'namespace' ? objects(tool['tools']) : [tool]))
      .map((tool) => ({ name: string(tool['name'] ?? tool['type']), description: string(tool['description']) }));
    const system: Message = { role: 'system', text: string(body['instructions']) };
    return { tools, messages: [system, ...messages], isStream: body['stream'] === true };
  },
  write({ text, calls = [] }, id) {
    const content = [{ type: 'output_text', text, annotations: [] }];
    const status = 'completed';
    const said = text === undefined ? [] : [{ type: 'message', id: `msg_${id}`, status, role: 'assistant', content }];
    const used = calls.map(({ name, args, input }, n) =>
      input === undefined
        ? {
            type: 'function_call',
            id: `fc_${id}_${n}`,
            call_id: `call_${id}_${n}`,
            status,
            name,
            arguments: JSON.stringify(args),
          }
        : { type: 'custom_tool_call', id: `ctc_${id}_${n}`, call_id: `call_${id}_${n}`, status, name, input },
    );
    const output = [...said, ...used];
    const response = {
      id: `resp_${id}`,
      object: 'response',
      created_at: 1700000000,
      model: 'scripted',
      status,
      output,
    };
    const details = { input_tokens_details: { cached_tokens: 0 }, output_tokens_details: { reasoning_tokens: 0 } };
    const whole = { ...response, usage: { input_tokens: 100, output_tokens: 10, total_tokens: 110, ...details } };
    const events = [
      event('response.created', {
        type: 'response.created',
        response: { ...response, status: 'in_progress', output: [] },
      }),
      ...output.flatMap((item, output_index) => [
        event('response.output_item.added', { type: 'response.output_item.added', output_index, item }),
        ...(text !== undefined && item.type === 'message'
          ? [
              event('response.output_text.delta', {
                type: 'response.output_text.delta',
                item_id: item.id,
                output_index,
                content_index: 0,
                delta: text,
              }),
            ]
          : []),
        event('response.output_item.done', { type: 'response.output_item.done', output_index, item }),
      ]),
      event('response.completed', { type: 'response.completed', response: whole }),
    ];
    return { whole, events };
  },
};

const chatCompletions: Dialect = {
  matches: (path) => path.endsWith('/chat/completions'),
  read(body) {
    const messages = objects(body['messages']).map((each) => ({
      role: roleOf(each['role']),
      text: textOf(each['content'] ?? ''),
    }));
    const tools = objects(body['tools']).map((tool) => {
      const { name, description } = (tool['function'] ?? tool) as Json;
      return { name: string(name), description: string(description) };
    });
    return { tools, messages, isStream: body['stream'] === true };
  },
  write({ text, calls = [] }, id) {
    const tool_calls = calls.map(({ name, args }, n) => ({
      id: `call_${id}_${n}`,
      type: 'function',
      function: { name, arguments: JSON.stringify(args) },
    }));
    const finish_reason = calls.length > 0 ? 'tool_calls' : 'stop';
    const usage = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };
    const base = { id: `chatcmpl-${id}`, created: 1700000000, model: 'scripted' };
    const message = { role: 'assistant', content: text ?? null, ...(calls.length > 0 ? { tool_calls } : {}) };
    const chunk = (delta: unknown, finish: string | null) =>
      dataOnly({ ...base, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: finish }] });
    const events = [
      chunk({ role: 'assistant', content: text ?? '' }, null),
      ...tool_calls.map((call, index) => chunk({ tool_calls: [{ index, ...call }] }, null)),
      chunk({}, finish_reason),
      dataOnly({ ...base, object: 'chat.completion.chunk', choices: [], usage }),
      'data: [DONE]\n\n',
    ];
    return {
      whole: { ...base, object: 'chat.completion', choices: [{ index: 0, message, finish_reason }], usage },
      events,
    };
  },
};

const anthropicMessages: Dialect = {
  matches: (path) => path.endsWith('/v1/messages'),
  read(body) {
    const messages = objects(body['messages']).flatMap((each): Message[] => {
      if (typeof each['content'] === 'string') return [{ role: roleOf(each['role']), text: each['content'] }];
      return objects(each['content']).map((part) => {
        if (part['type'] === 'tool_result') return { role: 'tool', text: textOf(part['content'] ?? '') };
        return { role: roleOf(each['role']), text: part['type'] === 'text' ? string(part['text']) : '' };
      });
    });
    const tools = objects(body['tools']).map(({ name, description }) => ({
      name: string(name),
      description: string(description),
    }));
    const system: Message = { role: 'system', text: textOf(body['system'] ?? '') };
    return { tools, messages: [system, ...messages], isStream: body['stream'] === true };
  },
  write({ text, calls = [] }, id) {
    const content = [
      ...(text === undefined ? [] : [{ type: 'text', text }]),
      ...calls.map(({ name, args }, n) => ({ type: 'tool_use', id: `toolu_${id}_${n}`, name, input: args })),
    ];
    const stop_reason = calls.length > 0 ? 'tool_use' : 'end_turn';
    const usage = { input_tokens: 100, output_tokens: 10, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };
    const base = { id: `msg_${id}`, type: 'message', role: 'assistant', model: 'scripted', stop_sequence: null, usage };
    const blocks = content.flatMap((block, index) => {
      const isText = 'text' in block;
      const empty = isText ? { type: 'text', text: '' } : { ...block, input: {} };
      const delta = isText
        ? { type: 'text_delta', text: block.text }
        : { type: 'input_json_delta', partial_json: JSON.stringify(block.input) };
      return [
        event('content_block_start', { type: 'content_block_start', index, content_block: empty }),
        event('content_block_delta', { type: 'content_block_delta', index, delta }),
        event('content_block_stop', { type: 'content_block_stop', index }),
      ];
    });
    const events = [
      event('message_start', { type: 'message_start', message: { ...base, content: [], stop_reason: null } }),
      ...blocks,
      event('message_delta', {
        type: 'message_delta',
        delta: { stop_reason, stop_sequence: null },
        usage: { output_tokens: 10 },
      }),
      event('message_stop', { type: 'message_stop' }),
    ];
    return { whole: { ...base, content, stop_reason }, events };
  },
};

const generateContent: Dialect = {
  matches: (path) => /:(stream)?generateContent$/i.test(path),
  read(body, path) {
    const messages = objects(body['contents']).flatMap((content) =>
      objects(content['parts']).flatMap((part): Message[] => {
        const response = part['functionResponse'] as Json | undefined;
        if (response !== undefined) return [{ role: 'tool', text: textOf(response['response'] ?? '') }];
        if (part['functionCall'] !== undefined) return [{ role: 'assistant', text: '' }];
        return part['text'] === undefined ? [] : [{ role: roleOf(content['role']), text: string(part['text']) }];
      }),
    );
    const tools = objects(body['tools'])
      .flatMap((tool) =>
        tool['functionDeclarations'] === undefined
          ? Object.keys(tool).map((name) => ({ name }))
          : objects(tool['functionDeclarations']),
      )
      .map((tool: Json) => ({ name: string(tool['name']), description: string(tool['description']) }));
    const system: Message = { role: 'system', text: textOf(body['systemInstruction'] ?? '') };
    return { tools, messages: [system, ...messages], isStream: /stream/i.test(path) };
  },
  write({ text, calls = [] }, id) {
    const parts = [
      ...(text === undefined ? [] : [{ text }]),
      ...calls.map(({ name, args }, n) => ({
        functionCall: { id: `call_${id}_${n}`, name, args },
        thoughtSignature: 'c2NyaXB0ZWQ=',
      })),
    ];
    const usageMetadata = { promptTokenCount: 100, candidatesTokenCount: 10, totalTokenCount: 110 };
    const candidates = [{ content: { role: 'model', parts }, finishReason: 'STOP', index: 0 }];
    const whole = { candidates, usageMetadata, modelVersion: 'scripted', responseId: `r${id}` };
    return { whole, events: [dataOnly(whole)] };
  },
};

export const DIALECTS: readonly Dialect[] = [responses, chatCompletions, anthropicMessages, generateContent];
