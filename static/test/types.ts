// Not run, only checked: that what notifier.d.ts promises is what the sources have, and reads as it is meant to.

import type { Notification, Options, State, VideoNotifier } from "../notifier.js";
import { VideoNotifier as Source } from "../src/browser.js";

/** Whatever is declared exists, with that type. */
type Members = "state" | "position" | "history" | "muted" | "close" | "reconnect" | "setRegions" | "refetch";
export const source: new (url: string | URL, options?: Options) => Pick<VideoNotifier, Members> = Source;
export const declared: Pick<Source, Members> = null as unknown as VideoNotifier;

export function use(notifier: VideoNotifier) {
  notifier.addEventListener("notification", (event) => {
    const { region, count, videos }: Notification = event.detail;
    if (count > 100) event.preventDefault();
    console.log(region, videos[0]?.title);
    notifier.refetch(() => fetch("/trending").then((response) => response.json()));
    notifier.refetch(() => {}, "comments");
  });
  notifier.addEventListener("statechange", ({ detail }) => {
    const state: State = detail.state;
    console.log(state);
  });
  notifier.addEventListener("refetch", ({ detail: { key, value } }) => {
    // @ts-expect-error: it may be anything
    console.log(key, value.length);
  });
  notifier.addEventListener("gap", ({ detail }) => console.log(detail.position));
  notifier.setRegions(["US"]);
  notifier.muted = true;
  // @ts-expect-error: only the notifier knows
  notifier.state = "open";
  // @ts-expect-error: the only places are these
  const options: Options = { storage: "session" };
  return options;
}
