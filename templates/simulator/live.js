// Follows the simulator: server-sent events, and asking again and again where there are none.
//
// A browser opens six connections to a host and no more, and a stream takes one. So of all open pages
// one reads the stream and tells the others.

import { call } from "./dom.js";
import { emit } from "./state.js";

const POLL_MS = 1500;
// A reader that has said nothing for this long is gone, or its stream is.
const SILENCE_MS = 25000;

const channel = "BroadcastChannel" in window ? new BroadcastChannel("sim-live") : null;
const BEAT_MS = 10000;
let heardAt = 0;
let polls = 0;
let known = {};

function tell(revision) {
  heardAt = performance.now();
  const wasReset = known.resets !== undefined && known.resets !== revision.resets;
  const before = wasReset ? {} : known;
  known = revision;
  if (wasReset) emit("reset");
  const changed = Object.keys(revision).filter((topic) => revision[topic] !== before[topic]);
  if (changed.length) emit("revision", new Set(changed));
}

function hear(revision) {
  polls = 0;
  tell(revision);
  emit("live", "live");
}

function read() {
  const stream = new EventSource("/_sim/events");
  const pass = (revision) => {
    if (channel) channel.postMessage(revision);
    hear(revision);
  };
  stream.addEventListener("revision", (event) => pass(JSON.parse(event.data)));
  const beat = setInterval(() => {
    if (stream.readyState === EventSource.OPEN && known.resets !== undefined) pass(known);
  }, BEAT_MS);
  stream.addEventListener("error", () => {
    heardAt = 0;
    // The browser comes back by itself, unless it was refused.
    if (stream.readyState === EventSource.CLOSED) {
      clearInterval(beat);
      setTimeout(read, BEAT_MS);
    }
  });
}

async function poll() {
  const isStreaming = heardAt > 0 && performance.now() - heardAt < SILENCE_MS;
  if (!isStreaming && !document.hidden) await check();
  setTimeout(poll, POLL_MS);
}

export function follow() {
  if (channel) {
    channel.addEventListener("message", (event) => {
      if (event.data === "anybody?") {
        if (known.resets !== undefined) channel.postMessage(known);
      } else hear(event.data);
    });
    channel.postMessage("anybody?");
  }
  // Held until the page goes; then the next one reads.
  if (channel && navigator.locks) {
    navigator.locks.request("sim-live", () => {
      read();
      return new Promise(() => {});
    });
  }
  poll();
}

// Asks once, now.
export async function check() {
  try {
    const before = heardAt;
    tell(await call("GET", "/revision"));
    heardAt = before;
    polls += 1;
    // A stream ends now and then and comes back at once: that is no news.
    if (polls > 3) emit("live", "polling");
  } catch {
    emit("live", "lost");
  }
}
