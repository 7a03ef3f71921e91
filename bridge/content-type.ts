/** Which form a client gets: `Accept` by q and order (RFC 9110, 12.5.1), and the agents that are known by name. */

/** User agents of coding agents and assistants: they get markdown, whatever they accept. The table's one place. */
const AGENTS = [
  ...['Claude-User', 'Claude-Web', 'Claude-Code', 'ClaudeBot', 'anthropic', 'ChatGPT-User', 'OAI-SearchBot', 'GPTBot'],
  ...['codex', 'Gemini', 'Google-Extended', 'Google-Agent', 'Perplexity-User', 'PerplexityBot', 'MistralAI-User'],
  ...['Cursor', 'copilot', 'opencode', 'aider', 'Devin', 'DuckAssistBot', 'meta-externalfetcher', 'Amazon-Q'],
];
const isAgent = new RegExp(`\\b(?:${AGENTS.join('|')})\\b`, 'i');

export const [MARKDOWN, HTML, PLAIN] = ['text/markdown', 'text/html', 'text/plain'] as const;

/** The form of a page: a browser says that it prefers HTML, everybody else gets markdown. */
export function pageType(accept: string | undefined, userAgent: string | undefined): string {
  if (userAgent !== undefined && isAgent.test(userAgent)) return MARKDOWN;
  return preferred(accept ?? '', [MARKDOWN, HTML, PLAIN]);
}

/**
 * The offer with the highest q; among equals the one that `accept` names first, then the first one offered. The most
 * specific range decides about an offer. The first offer where nothing fits: an answer serves better than a 406.
 */
export function preferred<Offer extends string>(accept: string, offers: readonly [Offer, ...Offer[]]): Offer {
  const named = accept === '' || accept === '*/*' ? offers[0] : offers.find((offer) => offer === accept);
  if (named) return named;
  const ranges = accept.split(',', 32).map((item, order) => {
    const [type = '', ...parameters] = item.toLowerCase().split(';');
    const q = parameters.map((parameter) => /^\s*q=([01](?:\.\d{0,3})?)\s*$/.exec(parameter)?.[1]).find(Boolean);
    return { type: type.trim(), q: Math.min(1, Number(q ?? 1)), order };
  });
  let best = { offer: offers[0], q: 0, order: Infinity };
  for (const offer of offers) {
    const names = [offer, offer.slice(0, offer.indexOf('/')) + '/*', '*/*'];
    const range = names.map((name) => ranges.find(({ type }) => type === name)).find(Boolean);
    if (!range || range.q === 0) continue;
    if (range.q > best.q || (range.q === best.q && range.order < best.order)) best = { offer, ...range };
  }
  return best.offer;
}
