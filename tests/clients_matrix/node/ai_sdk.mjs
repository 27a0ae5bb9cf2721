// Vercel's `ai` with the provider that the first argument names; it checks every event by a schema.
import { APICallError, generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { TASK, check, collected, raised, report } from './reporting.mjs';

const PROVIDERS = {
  responses: (options) => createOpenAI(options).responses,
  chat: (options) => createOpenAI(options).chat,
  anthropic: createAnthropic,
  compatible: (options) => createOpenAICompatible({ name: 'penstock', includeUsage: true, ...options }),
};
const provider = PROVIDERS[process.argv[2]];
const { name, description, schema } = TASK.tool;

await report((target) => {
  const connect = (apiKey) => provider({ baseURL: `${target.url}/v1`, apiKey });
  const model = connect(target.key);
  const settings = (more) => ({
    model: model(target.model),
    prompt: TASK.question,
    maxOutputTokens: TASK.max_tokens,
    maxRetries: 0,
    // Else it would refer to items of the first answer by id, as if they were stored.
    providerOptions: { openai: { store: false } },
    onError: () => {},
    ...more,
  });

  // The whole stream, which must hold no error.
  async function read(result) {
    const parts = await collected(result.fullStream);
    const failed = parts.find((part) => part.type === 'error');
    if (failed) throw failed.error;
    return parts;
  }

  async function called(ask) {
    const inputs = [];
    const execute = async (input) => (inputs.push(input), TASK.result);
    const result = await ask({
      tools: { [name]: tool({ description, inputSchema: jsonSchema(schema), execute }) },
      stopWhen: isStepCount(2),
      prepareStep: ({ stepNumber }) =>
        target.named && stepNumber === 0 ? { toolChoice: { type: 'tool', toolName: name } } : { toolChoice: 'auto' },
    });
    const [first] = await result.steps;
    check(first.finishReason === 'tool-calls', `finish reason ${first.finishReason}`);
    check(inputs.length === 1, `${inputs.length} calls`);
    return { name: first.toolCalls[0].toolName, arguments: inputs[0], text: await result.text };
  }

  return {
    chat: async () => ({ text: (await generateText(settings())).text }),
    stream: async () => {
      const parts = await read(streamText(settings()));
      return { pieces: parts.filter((part) => part.type === 'text-delta').map((part) => part.text) };
    },
    tool_call: () => called((more) => generateText(settings(more))),
    tool_stream: () =>
      called(async (more) => {
        const result = streamText(settings(more));
        await read(result);
        return result;
      }),
    usage: async () => {
      const counts = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];
      const streamed = streamText(settings());
      await read(streamed);
      return { unary: counts((await generateText(settings())).usage), stream: counts(await streamed.usage) };
    },
    error: async () => {
      const ask = (model) => generateText(settings({ model }));
      return {
        model: await raised(() => ask(model(target.absent)), APICallError),
        key: await raised(() => ask(connect(TASK.wrong_key)(target.model)), APICallError),
        ...(target.broken && { stream: await broken() }),
      };

      // An error in mid-stream comes as the client read it from the wire: an object, a string or an Error.
      async function broken() {
        const parts = await collected(streamText(settings({ model: model(target.broken) })).fullStream);
        const failed = parts.find((part) => part.type === 'error');
        check(failed, `no error: ${parts.at(-1).type}`);
        const words = failed.error instanceof Error ? failed.error.message : JSON.stringify(failed.error);
        return { kind: 'error', status: null, message: words };
      }
    },
  };
});
