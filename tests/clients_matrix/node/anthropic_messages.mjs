// The npm package `@anthropic-ai/sdk`; streams by its `stream` helper and by `create`.
import Anthropic from '@anthropic-ai/sdk';
import { TASK, check, collected, raised, report } from './reporting.mjs';

const connect = (target, apiKey) => new Anthropic({ baseURL: target.url, apiKey, maxRetries: 0 });
const { name, description, schema: input_schema } = TASK.tool;
const tools = [{ name, description, input_schema }];
const textOf = ({ content }) => content.map((block) => (block.type === 'text' ? block.text : '')).join('');

await report((target) => {
  const { messages } = connect(target, target.key);
  const question = [{ role: 'user', content: TASK.question }];
  const settings = (more) => ({ model: target.model, messages: question, max_tokens: TASK.max_tokens, ...more });
  const forced = target.named ? { tool_choice: { type: 'tool', name } } : {};
  const create = (body) => messages.create(body);
  const streamed = (body) => messages.stream(body).finalMessage();

  async function called(ask) {
    const { content, stop_reason } = await ask(settings({ tools, ...forced }));
    check(stop_reason === 'tool_use', `stop reason ${stop_reason}`);
    const calls = content.filter((block) => block.type === 'tool_use');
    check(calls.length === 1, `${calls.length} calls`);
    const [call] = calls;
    const result = { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: TASK.result }] };
    const answer = await ask(settings({ tools, messages: [...question, { role: 'assistant', content }, result] }));
    return { name: call.name, arguments: call.input, text: textOf(answer) };
  }

  return {
    chat: async () => ({ text: textOf(await create(settings())) }),
    stream: async () => {
      const stream = messages.stream(settings());
      const pieces = [];
      stream.on('text', (piece) => pieces.push(piece));
      check(textOf(await stream.finalMessage()) === pieces.join(''), 'the pieces are not the whole');
      return { pieces };
    },
    tool_call: () => called(create),
    tool_stream: () => called(streamed),
    usage: async () => {
      const counts = ({ usage }) => [usage.input_tokens, usage.output_tokens];
      return { unary: counts(await create(settings())), stream: counts(await streamed(settings())) };
    },
    error: async () => {
      const wrong = connect(target, TASK.wrong_key).messages;
      const broken = async () => collected(await create(settings({ model: target.broken, stream: true })));
      return {
        model: await raised(() => create(settings({ model: target.absent })), Anthropic.NotFoundError),
        key: await raised(() => wrong.create(settings()), Anthropic.AuthenticationError),
        ...(target.broken && { stream: await raised(broken, Anthropic.APIError) }),
      };
    },
  };
});
