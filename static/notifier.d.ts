/** A video as it was posted, but for `id`, which is text also where it was a number; fields beyond these pass through. */
export interface Video {
  id: string;
  title: string;
  thumb?: string;
  url?: string;
  [field: string]: unknown;
}

/** What was published, once. Its texts and URLs are as they were posted: show texts as text, never as HTML. */
export interface Notification {
  /** Its position. */
  id: string;
  /** `"unknown"` where the poster gave none. */
  region: string;
  /** How many videos there are in all. */
  count: number;
  /** The first of them, at most five. */
  videos: Video[];
  /** When the server took it: RFC 3339, UTC. */
  timestamp: string;
}

/** `waiting`: for the next attempt, or for the page to come back; `closed`: it does not come back by itself. */
export type State = "connecting" | "open" | "waiting" | "closed";

export interface Options {
  /** The regions to hear of; none means all. */
  regions?: string[];
  /** The position that the page was made at: what came later is caught up with. */
  since?: string | null;
  /**
   * `"none"`: nothing outlives the page, and it has a connection of its own. Default `"local"`: localStorage, and one
   * connection for all tabs of the browser.
   */
  storage?: "local" | "none";
  /** In seconds; what is older goes to the history, not to a toast. Default 900. */
  maxAge?: number;
  /** The site's page of a region, with `{region}` in it. */
  link?: string;
  /** `false`: no toasts, only events. */
  toasts?: boolean;
  /** In seconds, above 0; how long a toast stays while nothing holds it. Default 10. */
  toastSeconds?: number;
  /** The language of the toasts, instead of the page's and the reader's. There are de, en, es, fr, hi, ja, ko and pt. */
  lang?: string;
  /** Stand-ins for what the client takes from its surroundings. For tests. */
  runtime?: Partial<Runtime>;
}

export interface Runtime {
  /** By WebSocket. */
  connect(url: string): Socket;
  /** By server-sent events, where no WebSocket gets through. */
  stream(url: string): Socket;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** Milliseconds. */
  now(): number;
  /** From 0 to below 1. */
  random(): number;
  storage(): Pick<Storage, "getItem" | "setItem">;
  /** May throw, or be none: then each tab has a connection of its own. */
  locks(): LockManager | undefined;
  channel(name: string): BroadcastChannel;
  complain(message: string): void;
}

/** What the client needs of a WebSocket. */
export interface Socket {
  addEventListener(type: "message", listener: () => void): void;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason?: string }) => void) | null;
  send?(text: string): void;
  close(code?: number): void;
}

export interface NotifierEventMap {
  /** Something was published: every tab is told, and one shows it. `preventDefault()` keeps the toast away. */
  notification: CustomEvent<Notification>;
  statechange: CustomEvent<{ state: State }>;
  /** Something may have been missed: fetch anew what the page shows. */
  gap: CustomEvent<{ position: string }>;
  /** Some tab of this browser has called what was given to `refetch`, when it had got so far; `value` is what it gave. */
  refetch: CustomEvent<{ key: string; value: unknown; position: string | null }>;
}

/**
 * The words of one language: `"# new trending videos"` in each of its plural forms, where `#` stands for the count. All
 * else is from `Intl`.
 */
export interface Texts extends Partial<Record<Intl.LDMLPluralRule, string>> {
  /** The form that every language has. */
  other: string;
  close: string;
}

export class VideoNotifier extends EventTarget {
  /** The one that the script tag has started. */
  static instance: VideoNotifier | null;

  /** What toasts say, by language (`"en"`). Change it, or add a language, before a notifier is made. */
  static texts: Record<string, Texts>;

  /** Connects at once. `url` is the server's `/ws`, and may be relative to the page. Throws where it is no URL. */
  constructor(url: string | URL, options?: Options);

  /** That of the connection, which the tabs share. */
  readonly state: State;
  /** How far this page has got; null where it has heard nothing yet. */
  readonly position: string | null;
  /** What was received on this page, newest first. */
  readonly history: Notification[];
  /** Whether toasts are kept away: in all tabs, and on later visits, unless nothing can be stored. */
  muted: boolean;

  /** For good: no timer, no listener and no element is left. */
  close(): void;
  /** Connects at once, in place of the connection there is, of a wait, or after the server refused. */
  reconnect(): void;
  /** Asks for other regions from now on; none means all. One that is no region name ends in `closed`. */
  setRegions(regions: string[]): void;
  /**
   * Calls `fn` once, at a random moment of the time over which the server wants such requests to be spread, in one of
   * the tabs of this browser that ask for it, when that is visible. What it gives, or promises, is for all tabs: they get
   * it in an event of this name, so it must be a value that `structuredClone` takes. A promise must settle: until it does,
   * nothing else is fetched under its key. A page that asks for more than one thing names each with a `key`.
   */
  refetch(fn: () => unknown, key?: string): void;

  addEventListener<K extends keyof NotifierEventMap>(
    type: K,
    listener: (this: VideoNotifier, event: NotifierEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof NotifierEventMap>(
    type: K,
    listener: (this: VideoNotifier, event: NotifierEventMap[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
