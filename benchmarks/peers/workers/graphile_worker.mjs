// graphile-worker; `tuned` is the preset that its performance page gets its highest figures with.
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import { URL_, main } from "./common.mjs";

const PRESETS = {
  defaults: {},
  tuned: {
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};
const logger = new Logger(() => () => {});
const one = { worker: { connectionString: URL_, maxPoolSize: 1, logger } };

await main({
  setup: () => runMigrations({ preset: one }),
  async client() {
    const utils = await makeWorkerUtils({ preset: one });
    return {
      send: (payload) => utils.addJob("noop", payload),
      sendMany: (payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: "noop", payload }))),
    };
  },
  async work(count, preset) {
    await run({
      preset: { worker: { connectionString: URL_, logger, ...PRESETS[preset] } },
      taskList: { noop: async (payload) => count(payload.t) },
    });
  },
});
