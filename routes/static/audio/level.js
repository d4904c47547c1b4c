// @ts-check
/** How loud a frame is, as eyes expect it. Pure. */

const FLOOR_DB = -54;
const PER_FRAME = 2;

/** @typedef {{level: number, end: number}} Bar from 0 to 1; `end`: number of the sample after it */

/**
 * Two bars a frame: fast enough to follow syllables.
 * @param {Int16Array} frame
 * @param {number} last number of the sample after the frame
 * @returns {Bar[]}
 */
export function barsOf(frame, last) {
  const size = Math.ceil(frame.length / PER_FRAME);
  return Array.from({ length: PER_FRAME }, (_, index) => {
    const end = Math.min(frame.length, (index + 1) * size);
    return { level: levelOf(frame.subarray(index * size, end)), end: last - frame.length + end };
  });
}

/**
 * The mean power in decibels, from silence to the loudest.
 * @param {Int16Array} samples
 */
export function levelOf(samples) {
  let power = 0;
  for (const sample of samples) power += sample * sample;
  if (power === 0) return 0;
  const db = 10 * Math.log10(power / samples.length / 32_768 ** 2);
  return Math.min(1, Math.max(0, 1 - db / FLOOR_DB)) ** 1.5;
}

/**
 * Whether there is nothing in it at all, as of a microphone that is switched off.
 * @param {Int16Array} frame
 */
export const isMute = (frame) => frame.every((sample) => sample > -2 && sample < 2);
