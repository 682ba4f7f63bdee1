// What the worker scripts in JavaScript share; common.py tells the commands and the lines.
export const URL_ = process.env.DATABASE_URL;
const IN_BULK = 1000;
const PACE_MS = 20;

const nowMs = () => performance.timeOrigin + performance.now();
const tell = (event, value) => process.stdout.write(JSON.stringify([event, value]) + "\n");
export const LIMIT = Number(process.env.LIMIT ?? 0);
const LASTS_MS = 5;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Takes a handler's time if there is a limit.
export async function last() {
  if (!LIMIT) return;
  const began = nowMs();
  await sleep(LASTS_MS);
  tell("ran", [began / 1000, nowMs() / 1000]);
}

export function counter(wanted) {
  let begun = 0;
  const latencies = [];
  return (sent) => {
    const now = nowMs();
    if (sent !== undefined) latencies.push(now - sent * 1000);
    begun += 1;
    if (begun === 1) tell("began", now / 1000);
    if (begun % 1000 === 0) tell("count", [begun, now / 1000]);
    if (begun === wanted) {
      tell("latencies", latencies);
      tell("done", now / 1000);
    }
  };
}

export function* parts(count) {
  for (let first = 0; first < count; first += IN_BULK) {
    yield Array.from({ length: Math.min(IN_BULK, count - first) }, (_, index) => ({ n: first + index }));
  }
}

async function paced(count, send) {
  const began = nowMs();
  for (let number = 0; number < count; number += 1) {
    await sleep(Math.max(0, began + number * PACE_MS - nowMs()));
    await send({ n: number, t: nowMs() / 1000 });
  }
}

async function timed(work) {
  const began = nowMs();
  await work();
  tell("took", (nowMs() - began) / 1000);
}

// A queue: setup(), client() giving { send(payload), sendMany(payloads) }, and work(count, preset).
export async function main(queue) {
  const [command, count = "0", preset] = process.argv.slice(2);
  const number = Number(count);
  if (command === "setup") await queue.setup();
  else if (command === "work") {
    await queue.work(counter(number), preset);
    process.stdin.resume();
    process.stdin.on("end", () => process.exit(0));
    return;
  } else {
    const client = await queue.client();
    if (command === "paced") await paced(number, client.send);
    else if (command === "single") {
      await timed(async () => {
        for (let index = 0; index < number; index += 1) await client.send({ n: index });
      });
    } else {
      await timed(async () => {
        for (const payloads of parts(number)) await client.sendMany(payloads);
      });
    }
  }
  process.exit(0);
}
