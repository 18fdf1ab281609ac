// What a site in TypeScript writes. It is checked, bundled, and loaded.

import { type Notification, type Options, type State, VideoNotifier } from "video-notifier";

const options: Options = { regions: ["US"], link: "/trending?region={region}", since: null, lang: "de" };

export function start(url: string | URL): VideoNotifier {
  const notifier = new VideoNotifier(url, options);
  notifier.addEventListener("notification", function (event) {
    const { id, region, count, videos, timestamp }: Notification = event.detail;
    const title: string | undefined = videos[0]?.title;
    const rest: unknown = videos[0]?.duration;
    if (count > 100 || this.muted) event.preventDefault();
    console.log(id, region, title, rest, timestamp);
  });
  notifier.addEventListener("statechange", ({ detail }) => {
    const states: Record<State, string> = { connecting: "…", open: "on", waiting: "…", closed: "off" };
    console.log(states[detail.state]);
  });
  notifier.addEventListener("gap", ({ detail }) => console.log(detail.position), { once: true });
  notifier.addEventListener("another", { handleEvent() {} });
  notifier.refetch(() => {});
  notifier.setRegions(["JP"]);
  notifier.muted = !notifier.muted;
  const position: string | null = notifier.position;
  console.log(position, notifier.history.length, VideoNotifier.instance?.state);
  return notifier;
}

// What must not pass: each of these is an error, or the check fails.

export function misuse(notifier: VideoNotifier) {
  // @ts-expect-error: only the notifier knows
  notifier.state = "open";
  // @ts-expect-error: there is no such option
  new VideoNotifier("/ws", { region: "US" });
  // @ts-expect-error: a list
  notifier.setRegions("US");
  // @ts-expect-error: a state that there is not
  const state: State = "opened";
  // @ts-expect-error: the module makes no global
  console.log(state, window.VideoNotifier);
}
