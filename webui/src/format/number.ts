const COUNT = new Intl.NumberFormat("en");
const ONE_DIGIT = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** Such as `12,345`. */
export function count(value: number | bigint): string {
  return COUNT.format(value);
}

/** Such as `0.3`, at most one digit after the point. */
export function decimal(value: number): string {
  return ONE_DIGIT.format(value);
}

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Such as `15.6 GiB`. */
export function bytes(value: number | bigint): string {
  let size = Number(value);
  let unit = 0;
  while (size >= 1_024 && unit < BYTE_UNITS.length - 1) {
    size /= 1_024;
    unit += 1;
  }
  return `${ONE_DIGIT.format(size)} ${BYTE_UNITS[unit]}`;
}
