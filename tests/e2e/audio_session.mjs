/** Makes a listening session for tests, and what goes in and comes out of it. */

import { Session } from "../../routes/static/audio/session.js";

export const RATE = 16_000;
export const FRAME = RATE / 10;

/** The samples `start` to `end` of a sound in which every sample shows its number. */
export const sound = (start, end) => Int16Array.from({ length: end - start }, (_, at) => ((start + at) % 60_000) - 30_000);

export const final = (segment, start, end, text, cursor = `c${segment}`) => ({ type: "final", segment, start, end, text, cursor });
export const partial = (segment, start, end, stable, text) => ({ type: "partial", segment, start, end, stable, text });
export const ready = (resumeFrom = 0, cursor = "c") => ({ type: "ready", session: "s1", resumeFrom, cursor });

/** A session that has recorded so many frames, and is connected. */
export function listening(frames = 0, { nowMs = 0 } = {}) {
  const session = new Session(RATE);
  session.start();
  session.take(ready(), nowMs);
  for (let at = 0; at < frames; at += 1) session.record(sound(at * FRAME, (at + 1) * FRAME));
  return session;
}

export function drained(session, nowMs = 0) {
  const sent = [];
  for (let next = session.next(nowMs); next; next = session.next(nowMs)) sent.push(next);
  return sent;
}

export const samplesIn = (sent) => sent.filter((one) => one instanceof Int16Array).flatMap((one) => [...one]);
