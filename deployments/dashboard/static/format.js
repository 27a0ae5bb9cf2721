// Values as a person reads them. An unknown value is a dash, never a zero.

const language = navigator.language || "en";
const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const full = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const DASH = "–";

const date = (value) => new Date(typeof value === "number" ? value * 1000 : value);

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

/** Whole numbers, large ones in short. */
export const count = (value) => known(value) ? (Math.abs(value) < 100000 ? whole : short).format(value) : DASH;

/** A rate, or any number of which two or three digits matter. */
export const rate = (value) => {
  if (!known(value)) return DASH;
  return value >= 100 ? count(value) : value.toLocaleString(language, { maximumFractionDigits: value >= 10 ? 1 : 2 });
};

/** Seconds, in the unit that fits. */
export const seconds = (value) => {
  if (!known(value)) return DASH;
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${rate(value * 1000)} ms`;
  return value < 120 ? `${rate(value)} s` : `${rate(value / 60)} min`;
};

/** US dollars; small amounts keep their digits. */
export const dollars = (value) => {
  if (!known(value)) return DASH;
  const amount = Number(value);
  const digits = amount === 0 || Math.abs(amount) >= 1 ? 2 : Math.abs(amount) >= 0.01 ? 4 : 6;
  return `$${amount.toLocaleString(language, { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
};

/** A share between 0 and 1. */
export const percent = (value) => known(value) ? `${(value * 100).toFixed(value < 0.1 && value > 0 ? 1 : 0)} %` : DASH;

/** Bytes, in the unit that fits. */
export const bytes = (value) => known(value) ? `${short.format(value)}B` : DASH;

/** A moment (RFC 3339, or seconds since 1970) as a time of the day. */
export const time = (value) => known(value) ? clock.format(date(value)) : DASH;

/** The same with its date. */
export const moment = (value) => known(value) ? full.format(date(value)) : DASH;
