// pg-boss 12, with LISTEN/NOTIFY on.
import { PgBoss } from "pg-boss";
import { LIMIT, URL_, last, main } from "./common.mjs";

const QUEUE = "noop";
const PRESETS = {
  defaults: {},
  tuned: { batchSize: 500, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 },
  limited: {
    batchSize: 1,
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 0.5,
    localConcurrency: LIMIT,
    groupConcurrency: LIMIT,
  },
};
const GROUP = LIMIT ? { group: { id: QUEUE } } : {};

async function start(options) {
  const boss = new PgBoss({ connectionString: URL_, ...options });
  boss.on("error", console.error);
  await boss.start();
  return boss;
}
const sender = () => start({ max: 1, supervise: false, schedule: false });

await main({
  async setup() {
    const boss = await sender();
    await boss.createQueue(QUEUE, { notify: true });
  },
  async client() {
    const boss = await sender();
    return {
      send: (payload) => boss.send(QUEUE, payload),
      sendMany: (payloads) => boss.insert(QUEUE, payloads.map((data) => ({ data, ...GROUP }))),
    };
  },
  async work(count, preset) {
    // With notifications it polls rarely, and nothing is said when a place of a group is free.
    const boss = await start({ max: 10, useListenNotify: !LIMIT });
    await boss.work(QUEUE, PRESETS[preset], async (jobs) => {
      for (const job of jobs) {
        count(job.data.t);
        await last();
      }
    });
  },
});
