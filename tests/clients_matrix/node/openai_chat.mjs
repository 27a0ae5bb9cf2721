// The npm package `openai`, chat completions; streams by its `stream` helper and by `create`.
import OpenAI from 'openai';
import { TASK, check, collected, raised, report } from './reporting.mjs';

const connect = (target, apiKey) => new OpenAI({ baseURL: `${target.url}/v1`, apiKey, maxRetries: 0 });
const { name, description, schema: parameters } = TASK.tool;
const tools = [{ type: 'function', function: { name, description, parameters, strict: true } }];

await report((target) => {
  const { completions } = connect(target, target.key).chat;
  const question = [{ role: 'user', content: TASK.question }];
  const settings = (more) => ({ model: target.model, messages: question, max_tokens: TASK.max_tokens, ...more });
  const forced = target.named ? { tool_choice: { type: 'function', function: { name } } } : {};

  async function called(ask) {
    const { message, finish_reason } = (await ask(settings({ tools, ...forced }))).choices[0];
    check(finish_reason === 'tool_calls', `finish reason ${finish_reason}`);
    check(message.tool_calls.length === 1, `${message.tool_calls.length} calls`);
    const [call] = message.tool_calls;
    const result = { role: 'tool', tool_call_id: call.id, content: TASK.result };
    const answer = await ask(settings({ tools, messages: [...question, message, result] }));
    const { name, arguments: text } = call.function;
    return { name, arguments: JSON.parse(text), text: answer.choices[0].message.content };
  }

  return {
    chat: async () => ({ text: (await completions.create(settings())).choices[0].message.content }),
    stream: async () => {
      const stream = completions.stream(settings());
      const pieces = [];
      stream.on('content', (piece) => pieces.push(piece));
      check(((await stream.finalContent()) ?? '') === pieces.join(''), 'the pieces are not the whole');
      return { pieces };
    },
    tool_call: () => called((body) => completions.create(body)),
    tool_stream: () => called((body) => completions.stream(body).finalChatCompletion()),
    usage: async () => {
      const streamed = settings({ stream: true, stream_options: { include_usage: true } });
      const last = (await collected(await completions.create(streamed))).findLast((chunk) => chunk.usage);
      const counts = ({ usage }) => [usage.prompt_tokens, usage.completion_tokens];
      return { unary: counts(await completions.create(settings())), ...(last && { stream: counts(last) }) };
    },
    error: async () => {
      const wrong = connect(target, TASK.wrong_key).chat.completions;
      const broken = async () => collected(await completions.create(settings({ model: target.broken, stream: true })));
      return {
        model: await raised(() => completions.create(settings({ model: target.absent })), OpenAI.NotFoundError),
        key: await raised(() => wrong.create(settings()), OpenAI.AuthenticationError),
        ...(target.broken && { stream: await raised(broken, OpenAI.APIError) }),
      };
    },
  };
});
