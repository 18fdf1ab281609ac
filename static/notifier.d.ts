/** One video of a notification. Fields beside these come through as the poster sent them. */
export interface Video {
  id: string | number
  title: string
  thumb?: unknown
  url?: unknown
  [field: string]: unknown
}

/** What a page is told of. */
export interface Notification {
  /** Its position in the server's history, `EPOCH-OFFSET`. */
  id: string
  /** The region that the videos trend in. */
  region: string
  /** How many videos are new in all. */
  count: number
  /** At most five of them. */
  videos: readonly Video[]
  /** When the server accepted it. */
  timestamp: Date
}

/** `connecting`, `open`, `waiting` for the next attempt, or `closed` for good. */
export type State = 'connecting' | 'open' | 'waiting' | 'closed'

/** The words of the toasts. `{count}`, `{region}` and `{regions}` are filled in. */
export interface Catalogue {
  /** News of one region, by plural category. */
  news: Partial<Record<Intl.LDMLPluralRule, string>>
  /** News of a region that is not known. */
  newsAnywhere: Partial<Record<Intl.LDMLPluralRule, string>>
  /** News of more than one region. */
  newsOfSeveral: Partial<Record<Intl.LDMLPluralRule, string>>
  /** The link to the site's page. */
  open: string
  /** The button's name. */
  close: string
  /** The name of the toasts' landmark. */
  label: string
}

export interface Options {
  /** The regions to hear of; none means all. */
  regions?: readonly string[]
  /** Template of the site's page for a region, `/trending?region={region}`. */
  link?: string
  /** The position that the page was rendered at, for a browser that has none of its own. */
  since?: string
  /** Where positions are kept; `none` keeps them in memory. Default `local`. */
  storage?: 'local' | 'none'
  /** In seconds: what is older goes to `history`, not to a toast. Default 900. */
  maxAge?: number
  /** Whether to show toasts at all. Default `true`. */
  toasts?: boolean
  /** Language of the toasts. Default: that of the page. */
  language?: string
  /** The page's own words. */
  words?: Partial<Catalogue>
}

export interface VideoNotifierEventMap {
  /** News. `preventDefault()` keeps the toast away. */
  notification: CustomEvent<Notification>
  statechange: CustomEvent<{ state: State }>
  /** What came between the two positions can't be had any more. */
  gap: CustomEvent<{ since: string | null; position: string }>
}

/** Hears of new trending videos and shows them as toasts. */
export class VideoNotifier extends EventTarget {
  /** The instance that the script tag started, if it did. */
  static page: VideoNotifier | undefined

  /** Connects at once. `url` is that of the server's `/ws`. */
  constructor(url: string | URL, options?: Options)

  readonly state: State
  /** All notifications up to here have come; null before the first hello. */
  readonly position: string | null
  /** The latest notifications, newest first. What a toast said stays here. */
  readonly history: Notification[]
  /** Whether no toasts are shown; remembered by the browser. Events and `history` go on. */
  muted: boolean

  /** Ends it for good and leaves nothing behind: no timer, listener or element. */
  close(): void
  /** Connects anew, at once. After `close()` it does nothing. */
  reconnect(): void
  /** Hears of other regions from now on; none means all. */
  setRegions(regions: readonly string[]): void
  /** Calls `fn` once, after a random part of the span that the server gave last, while the page can be seen. */
  refetch(fn: () => void): void

  addEventListener<K extends keyof VideoNotifierEventMap>(
    type: K,
    listener: (event: VideoNotifierEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void
}

declare global {
  interface Window {
    VideoNotifier: typeof VideoNotifier
  }
}
