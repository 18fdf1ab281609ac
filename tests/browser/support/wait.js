/** Waiting for what is to become true, and ending what was started. */

import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";

/** Asks again until the answer is true; the answer. What throws is not true yet. */
export async function eventually(ask, { what = String(ask), within = 10_000 } = {}) {
  const until = performance.now() + within;
  let answer;
  for (;;) {
    try {
      answer = await ask();
      if (answer) return answer;
    } catch (error) {
      answer = error;
    }
    if (performance.now() > until) throw new Error(`not within ${within} ms: ${what} (last: ${answer})`);
    await pause(20);
  }
}

/** Ends a child and waits until it is gone. */
export async function stop(child, signal = "SIGTERM") {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill(signal);
  const late = setTimeout(() => child.kill("SIGKILL"), 5000);
  await gone;
  clearTimeout(late);
}
