/**
 * One connection for all tabs of this browser: `client.js` in each tab listens here, and can't tell which tab has the
 * socket. The leader, which `election.js` finds, connects for all of them and passes on what it receives over a
 * BroadcastChannel. Where a browser has no such things, or the page wants nothing stored, each tab leads itself.
 *
 * Whatever happens to the leader, the next one goes on from its own position: each tab follows the whole subscription,
 * not only its own regions of it. Positions make every message safe: what a tab has had it drops, and it takes nothing
 * before a `hello` that starts no later than where it is itself.
 *
 * A browser may freeze a leader without telling it, and a frozen tab still hears what comes on the channel. So it answers
 * by a timer only, which does not run there, and a tab that gets no answer takes its place.
 *
 * @typedef {import("./protocol.js").Message} Message
 * @typedef {import("./protocol.js").Notification} Notification
 * @typedef {import("./connection.js").State} State
 * @typedef {import("./refetch.js").Refetch} Refetch
 *
 * Each publication is shown in one tab, and the leader says in which: the one that is looked at. What comes while none is
 * waits in the storage, for the first.
 *
 * @typedef {object} Join what a tab says when it comes, when anything about it has changed, and to see the leader live
 * @property {string} from
 * @property {string[]} regions
 * @property {string | null} since
 * @property {number} attention how much the reader sees of it: 0 for nothing, and more for more
 *
 * @typedef {object} Post what a leader says
 * @property {string} from
 * @property {State} state
 * @property {number} due when it will have said more, if all is well
 * @property {number} notBefore the server wants nobody of this browser to connect before this
 * @property {string[]} regions what the messages are of
 * @property {Message[]} messages
 * @property {string} [to] for this tab only
 * @property {Notification} [show] to be shown now, by this tab
 *
 * What else tabs tell each other is theirs: `refetch.js` has what it says.
 */

import { connection } from "./connection.js";
import { election } from "./election.js";
import { receive } from "./inbox.js";
import { isRegion } from "./links.js";
import { compare } from "./position.js";
import { notification as readNotification } from "./protocol.js";
import { covers, Roster } from "./roster.js";

/** Tabs whose scripts share in another way must not meet: what changes here needs another number. */
const PROTOCOL = "video-notifier/1 ";

/** How many publications the leader keeps for tabs that come later or fell behind. */
const MAX_KEPT = 100;

/** How many may wait to be shown. */
const MAX_UNSHOWN = 20;

/** How long a leader may take to answer: some browsers let timers of hidden tabs run once a second. */
const ANSWER_MS = 1300;
const HIDDEN_ANSWER_MS = 5000;

/** Over how long tabs are spread that all wait for an answer. Together below the two seconds that who looks may wait. */
const SPREAD_MS = 400;

/** How much later than it was due a leader may be. */
const LATE_MS = 2000;

/**
 * @param {URL} url
 * @param {string[]} regions none means all
 * @param {ReturnType<typeof import("./position.js").positions>} positions
 * @param {boolean} shares
 * @param {import("./position.js").Slot} unshown where that waits which no tab has shown yet
 * @param {() => number} attention
 * @param {(message: Message) => void} onMessage also of regions that only other tabs ask for
 * @param {(notification: Notification) => void} onShow
 * @param {(state: State) => void} onState
 * @param {(refetch: Refetch) => void} onTold what another tab tells
 * @param {import("./runtime.js").Runtime} runtime
 */
export function sharedConnection(
  url,
  regions,
  positions,
  shares,
  unshown,
  attention,
  onMessage,
  onShow,
  onState,
  onTold,
  runtime,
) {
  const name = PROTOCOL + url;
  const server = connection(address, pass, changed, runtime);

  /** @type {State} */
  let state = "waiting";
  let leads = false;
  /** Drawn anew each time that the page comes. */
  let id = "";
  /** Null where each tab leads itself. @type {BroadcastChannel | null} */
  let channel = null;
  /** @type {ReturnType<typeof election> | null} */
  let tabs = null;
  /** How much of the reader's attention this tab was last known to have. */
  let told = 0;
  /** What the subscription has, whoever leads. */
  let subscribed = regions;

  // What one that follows knows of its leader:

  let leader = "";
  /** Before when the server wants no attempt. */
  let notBefore = 0;
  /** Whether what it sends follows on what this tab has. */
  let isInStep = false;
  let askedAt = 0;
  /** When patience ends with the questions that nobody has answered yet. */
  let deadline = 0;
  /** For the next question, else for the deadline. @type {any} */
  let timer;

  // What the leader knows of the others:

  const roster = new Roster();
  /** All publications after `start`. @type {Message[]} */
  const kept = [];
  /** @type {string | null} */
  let start = null;
  /** Where one is that is behind `start`. @type {string | null} */
  let behind = null;
  /** Up to where the server has no more. @type {string | null} */
  let lost = null;
  /** The latest. @type {Message | null} */
  let hello = null;

  return {
    get state() {
      return state;
    },

    /** The page is here, for the first time or again. */
    join() {
      if (!leads && !tabs && state !== "closed") open();
    },

    /** The page goes to where it can't hold a connection. */
    leave() {
      if (state !== "closed") end("waiting");
    },

    /** For good, or until somebody calls `reconnect`. */
    close() {
      end("closed");
    },

    /** Connects at once, in place of what there is. */
    reconnect() {
      notBefore = 0;
      if (state === "closed") open();
      else if (leads) server.reconnect();
      else tabs?.seize();
    },

    /** There is a network again, or another one: what stands may have been lost with the last. */
    online() {
      if (leads && server.state !== "waiting") server.reconnect();
      else check();
    },

    /** Runs it while no other tab runs one of that name. @param {string} name @param {() => Promise<void>} run */
    alone(name, run) {
      if (tabs) tabs.alone(name, run);
      else run();
    },

    /** @param {Refetch} refetch for all tabs */
    tell(refetch) {
      onTold(refetch);
      channel?.postMessage(refetch);
    },

    check,

    /** @param {string[]} wanted from now on */
    setRegions(wanted) {
      regions = wanted;
      if (leads) {
        enroll(join());
        if (server.state !== "open") server.check();
        else if (isShort()) server.reconnect();
      } else if (tabs) {
        loseStep();
        enter("connecting");
      }
    },
  };

  /** Something has happened that makes it worth a look, or the reader looks elsewhere. */
  function check() {
    if (leads) {
      enroll(join());
      show();
      server.check();
    } else if (tabs) {
      ask();
    }
  }

  function open() {
    id = `${runtime.random()}`;
    subscribed = regions;
    isInStep = false;
    if (!shares) return lead();
    try {
      channel = runtime.channel(name);
      receive(channel, hear, loseStep);
      tabs = election(runtime.locks(), name, id, ask, lead, yieldLead);
      enter("connecting");
    } catch {
      lead();
    }
  }

  /** What comes next may not follow on what this tab has: it asks, unless it leads by now. */
  function loseStep() {
    isInStep = false;
    if (!leads) ask();
  }

  /** @param {any} data */
  function hear(data) {
    if (data.messages) follow(data);
    else if (data.regions) admit(data);
    else onTold(data);
  }

  /** @param {"waiting" | "closed"} next */
  function end(next) {
    leads = false;
    tabs?.end();
    tabs = null;
    channel?.close();
    channel = null;
    runtime.clearTimeout(timer);
    server.stop(next);
    enter(next);
  }

  /** @param {boolean} [alone] where there are no locks: each tab does */
  function lead(alone) {
    if (alone) tabs = null;
    leads = true;
    runtime.clearTimeout(timer);
    // The others tell in a moment what they ask for; until then it is what they had.
    roster.clear();
    // Nobody looks at this one, so it has no attention.
    roster.set("", /** @type {any} */ ({ regions: subscribed }));
    kept.length = 0;
    start = behind = null;
    enroll(join());
    server.start(notBefore);
    post([]);
    show();
  }

  function yieldLead() {
    leads = false;
    server.stop("waiting");
    loseStep();
  }

  /** The leader connects, to whatever any tab asks for, from where the one that is furthest back is. */
  function address() {
    subscribed = roster.regions;
    positions.ask(subscribed);
    start = positions.since();
    if (precedes(behind, start)) start = behind;
    const address = new URL(url);
    if (subscribed.length) address.searchParams.set("regions", subscribed.join());
    if (start) address.searchParams.set("since", start);
    return address.href;
  }

  /** @param {State} next */
  function changed(next) {
    // Refused for good: the next tab may find that out for itself.
    if (next === "closed") return end(next);
    post([]);
    enter(next);
  }

  /** From the server to all. @param {Message} message */
  function pass(message) {
    if (message.type === "hello") {
      roster.delete("");
      // Others have come while it connected.
      if (isShort()) return server.reconnect();
      if (!message.recovered && behind) {
        // It went back for a tab that was away too long. The others have missed nothing, and that one is told by itself.
        lost = behind;
        behind = null;
        return server.reconnect();
      }
      behind = null;
      hello = message;
      start = message.position;
      kept.length = 0;
    }
    const { notification } = message;
    if (notification && !covers(subscribed, [notification.region])) return;
    if (notification && kept.push(message) > MAX_KEPT) start = /** @type {Message} */ (kept.shift()).position;
    const isFirst = notification && positions.isFirst(notification);
    post([message]);
    take(message);
    show(isFirst ? notification : []);
  }

  /** @param {Message} message */
  function take(message) {
    onMessage(message);
    // Not all that brings a tab into sight is an event: a modal dialog that is taken out of the page is none.
    if (attention() !== told) check();
  }

  /** What waits is shown where anybody looks. @param {Notification | never[]} [more] */
  function show(more = []) {
    const waiting = /** @type {Notification[]} */ ([unshown.get(), more].flat().map(readNotification).filter(Boolean));
    if (waiting.length) unshown.set(waiting.filter((each) => !roster.viewer(each.region)).slice(-MAX_UNSHOWN));
    for (const notification of waiting) {
      const to = roster.viewer(notification.region);
      if (to === id) onShow(notification);
      else if (to) post([], { show: notification, to });
    }
  }

  /** A tab has come, or asks for something else, or only wants to see life. @param {Join} tab */
  function admit(tab) {
    const { from, regions } = tab;
    const since = compare(tab.since, lost) <= 0 ? "" : tab.since;
    // What the server can't read would end the connection of all.
    if (!leads || !regions.every(isRegion)) return;
    if (!roster.has(from)) tabs?.watch(from, () => roster.delete(from) && narrow());
    enroll({ ...tab, since });
    runtime.setTimeout(() => {
      if (!leads) return;
      server.check();
      // Such a timer may run late, in a tab that is not looked at, and what was kept for that tab is gone.
      reach(since);
      if (server.state !== "open") post([]);
      else if (isShort()) server.reconnect();
      else answer(from, since);
      show();
    }, 0);
  }

  /** @param {Join} tab */
  function enroll({ from, regions, since, attention }) {
    roster.delete(from);
    roster.set(from, { regions, attention });
    reach(since);
    narrow();
  }

  /** The connection is to start there, or earlier. @param {string | null} since */
  function reach(since) {
    if (precedes(since, start)) behind = precedes(behind, since) ? behind : since;
  }

  /** What it has missed, and that it has missed no more. @param {string} to @param {string | null} since */
  function answer(to, since) {
    const head = positions.since();
    const order = compare(since, head);
    // It is ahead of what the server was only just asked for; or the history went back. It won't wait for an answer, but
    // lead, and ask the server itself.
    if (order > 0) return;
    const isKnown = order <= 0;
    const recovered = since === null || isKnown;
    const position = isKnown ? since : head;
    const first = /** @type {Message} */ ({ ...hello, position, recovered });
    post([first, ...kept.filter((message) => compare(since, message.position) < 0)], { to });
  }

  /** @param {Message[]} messages @param {Pick<Post, "to" | "show">} [more] */
  function post(messages, more) {
    const { state, due, notBefore } = server;
    if (leads) channel?.postMessage({ from: id, state, due, notBefore, regions: subscribed, messages, ...more });
  }

  /** What nobody asks for any more is dropped from here on: who asks for it again has not missed it unknowingly. */
  function narrow() {
    if (covers(subscribed, roster.regions)) subscribed = roster.regions;
    positions.ask(subscribed);
  }

  /** Whether the subscription lacks what some tab asks for. */
  function isShort() {
    return !covers(subscribed, roster.regions) || precedes(behind, start);
  }

  /** From the leader. @param {Post} post */
  function follow(post) {
    if (leads) return;
    const { from, state: its, due, regions: theirs, messages, to, show } = post;
    const now = runtime.now();
    const isOther = from !== leader;
    if (isOther) isInStep = false;
    leader = from;
    notBefore = post.notBefore;
    if (due > now) {
      deadline = 0;
      runtime.clearTimeout(timer);
      timer = runtime.setTimeout(ask, due - now + LATE_MS);
    }
    for (const message of !to || to === id ? messages : []) {
      if (message.type === "hello") {
        const { position, recovered } = message;
        const since = positions.since(regions);
        isInStep = covers(theirs, regions) && (since === null || !recovered || compare(position, since) <= 0);
      }
      if (!isInStep || !tabs) break;
      subscribed = theirs;
      positions.ask(theirs);
      take(message);
    }
    if (show && to === id) onShow(show);
    if (!tabs) return;
    const next = its === "open" && !isInStep ? "connecting" : its;
    // A leader must know of this tab, and of where it is. While it is away from the server that has time: it would
    // take each question for a reason to try at once.
    if (isOther ? to !== id : next !== its && now - askedAt > 1000) ask();
    enter(next);
  }

  /** The leader is to know of this tab, and to show life. */
  function ask() {
    askedAt = runtime.now();
    channel?.postMessage(join());
    runtime.clearTimeout(timer);
    // Another question doesn't make it longer, though one by a tab that is looked at may make it shorter.
    const end = askedAt + (attention() > 0 ? ANSWER_MS : HIDDEN_ANSWER_MS) + SPREAD_MS * runtime.random();
    deadline = deadline > askedAt ? Math.min(deadline, end) : end;
    timer = runtime.setTimeout(() => tabs?.seize(), deadline - askedAt);
  }

  /** @returns {Join} */
  function join() {
    told = attention();
    return { from: id, regions, since: positions.since(regions), attention: told };
  }

  /** @param {State} next */
  function enter(next) {
    if (next === state) return;
    state = next;
    onState(next);
  }
}

/** Whether one must start earlier for this. @param {string | null} since @param {string | null} start */
function precedes(since, start) {
  return since !== null && (start === null || compare(since, start) < 0);
}
