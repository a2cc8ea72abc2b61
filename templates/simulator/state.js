// What the page knows: fans, account, who holds the phone. Whoever shows it listens.

import { call } from "./dom.js";

const listeners = new Map();
export const state = { fans: [], openid: "", account: null, clock: null };

// Topics: "fans", "account", "clock", "fan" (another fan took the phone), "revision", "reset".
export function on(topic, listener) {
  listeners.set(topic, [...(listeners.get(topic) || []), listener]);
}

export function emit(topic, detail) {
  for (const listener of listeners.get(topic) || []) listener(detail);
}

export function fan() {
  return state.fans.find((one) => one.openid === state.openid);
}

// Pages that the phone opens know by the cookie who holds it.
export function choose(openid) {
  if (state.openid === openid) return;
  state.openid = openid;
  document.cookie = "sim_fan=" + openid + "; path=/; samesite=lax";
  emit("fan");
}

export async function refreshSettings() {
  const [account, fans, clock] = await Promise.all([
    call("GET", "/account"), call("GET", "/fans"), call("GET", "/clock"),
  ]);
  keep("account", account);
  state.clock = clock;
  emit("clock");
  keep("fans", fans);
  if (!fan() && fans.length) {
    const cookie = document.cookie.match(/(?:^|; )sim_fan=([^;]*)/);
    const last = cookie && fans.find((one) => one.openid === cookie[1]);
    choose((last || fans[0]).openid);
  }
}

function keep(name, value) {
  const changed = JSON.stringify(state[name]) !== JSON.stringify(value);
  state[name] = value;
  if (changed) emit(name);
}
