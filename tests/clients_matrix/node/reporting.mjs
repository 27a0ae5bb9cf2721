// How a runner reads its task and reports: see tests/clients_matrix/features.py for the form.

export const TASK = JSON.parse(process.argv.at(-1));
export const FEATURES = ['chat', 'stream', 'tool_call', 'tool_stream', 'usage', 'error'];

// Does every feature with every target: `make(target)` gives an object with an async function for each.
export async function report(make) {
  for (const target of TASK.targets) {
    for (const feature of FEATURES) {
      const place = { target: target.name, feature };
      try {
        console.log(JSON.stringify({ ...place, saw: (await make(target)[feature]()) ?? null }));
      } catch (error) {
        console.log(JSON.stringify({ ...place, error: String(error?.stack ?? error).split('\n    at ')[0] || 'an error' }));
      }
    }
  }
}

// What `action` threw, which must be one of the client's own errors.
export async function raised(action, kind) {
  let answer;
  try {
    answer = await action();
  } catch (error) {
    const found = error.lastError ?? error;
    if (!(found instanceof kind)) throw error;
    return { kind: found.name, status: found.status ?? found.statusCode ?? null, message: found.message };
  }
  throw new Error(`no error: ${JSON.stringify(answer)?.slice(0, 200)}`);
}

export async function collected(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

export function check(condition, words) {
  if (!condition) throw new Error(words);
}
