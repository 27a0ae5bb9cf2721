// The npm package `openai`, Responses; streams by its `stream` helper and by `create`.
import OpenAI from 'openai';
import { TASK, check, collected, raised, report } from './reporting.mjs';

const connect = (target, apiKey) => new OpenAI({ baseURL: `${target.url}/v1`, apiKey, maxRetries: 0 });
const { name, description, schema: parameters } = TASK.tool;
const tools = [{ type: 'function', name, description, parameters, strict: true }];

await report((target) => {
  const { responses } = connect(target, target.key);
  const question = [{ role: 'user', content: TASK.question }];
  const limits = { max_output_tokens: TASK.max_tokens, store: false, include: ['reasoning.encrypted_content'] };
  const settings = (more) => ({ model: target.model, input: question, ...limits, ...more });
  const forced = target.named ? { tool_choice: { type: 'function', name } } : {};
  const create = (body) => responses.create(body);
  const streamed = (body) => responses.stream(body).finalResponse();

  async function called(ask) {
    const asked = await ask(settings({ tools, ...forced }));
    const calls = asked.output.filter((item) => item.type === 'function_call');
    check(calls.length === 1, `${calls.length} calls`);
    const [call] = calls;
    const spoken = asked.output.map(({ parsed_arguments, ...item }) => item);
    const result = { type: 'function_call_output', call_id: call.call_id, output: TASK.result };
    const answer = await ask(settings({ tools, input: [...question, ...spoken, result] }));
    return { name: call.name, arguments: JSON.parse(call.arguments), text: answer.output_text };
  }

  return {
    chat: async () => ({ text: (await create(settings())).output_text }),
    stream: async () => {
      const stream = responses.stream(settings());
      const pieces = [];
      stream.on('response.output_text.delta', (event) => pieces.push(event.delta));
      check((await stream.finalResponse()).output_text === pieces.join(''), 'the pieces are not the whole');
      return { pieces };
    },
    tool_call: () => called(create),
    tool_stream: () => called(streamed),
    usage: async () => {
      const counts = ({ usage }) => (usage ? [usage.input_tokens, usage.output_tokens] : null);
      return { unary: counts(await create(settings())), stream: counts(await streamed(settings())) };
    },
    error: async () => {
      const wrong = connect(target, TASK.wrong_key).responses;
      const broken = async () => {
        const last = (await collected(await create(settings({ model: target.broken, stream: true })))).at(-1);
        check(['response.failed', 'error'].includes(last.type), `ended with ${last.type}`);
        return { kind: last.type, status: null, message: last.response?.error.message ?? last.message };
      };
      return {
        model: await raised(() => create(settings({ model: target.absent })), OpenAI.NotFoundError),
        key: await raised(() => wrong.create(settings()), OpenAI.AuthenticationError),
        ...(target.broken && { stream: await broken() }),
      };
    },
  };
});
