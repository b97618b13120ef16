// The newest buckets of all channels, by their index in the stream.

/** Minimum and maximum of each bucket and channel; NaN where samples are missing. */
export class Buckets {
  /**
   * @param {number} channels
   * @param {number} perSecond buckets a second to expect; measured from arrivals later
   * @param {number} capacity how many are kept
   */
  constructor(channels, perSecond, capacity) {
    this.channels = channels;
    this.perSecond = perSecond;
    this.capacity = capacity;
    this.values = new Float32Array(capacity * channels * 2).fill(NaN);
    this.base = new Float32Array(channels).fill(NaN); // slow mean: electrodes have an offset
    this.end = 0; // index after the newest
    this.begin = 0; // index of the first that was kept
    this.clock = null;
  }

  /** Takes a frame; false where it belongs to another stream, which begins anew. */
  take({ first, buckets, values }, now) {
    let continued = true;
    const last = first + buckets;
    if (last <= this.end - this.capacity || first > this.end + this.capacity || !this.end) {
      continued = false;
      this.values.fill(NaN);
      this.begin = this.end = first;
      this.clock = null;
    } else if (last <= this.end) {
      return true;
    }
    const width = this.channels * 2;
    for (let index = this.end; index < first; index += 1) { // what was not sent to a slow page
      const at = (index % this.capacity) * width;
      this.values.fill(NaN, at, at + width);
    }
    for (let index = Math.max(first, this.end - this.capacity); index < last; index += 1) {
      const from = (index - first) * width;
      this.values.set(values.subarray(from, from + width), (index % this.capacity) * width);
    }
    this.#follow(values, buckets);
    this.end = last;
    this.begin = Math.max(this.begin, last - this.capacity);
    this.#measure(now);
    return continued;
  }

  at(index) {
    return (index % this.capacity) * this.channels * 2;
  }

  #follow(values, buckets) {
    if (!buckets) return;
    const gain = Math.min(1, buckets / (2 * this.perSecond));
    for (let channel = 0; channel < this.channels; channel += 1) {
      const at = ((buckets - 1) * this.channels + channel) * 2;
      const middle = (values[at] + values[at + 1]) / 2;
      if (Number.isNaN(middle)) continue;
      const base = this.base[channel];
      this.base[channel] = Number.isNaN(base) ? middle : base + gain * (middle - base);
    }
  }

  #measure(now) {
    if (!this.clock) {
      this.clock = { now, end: this.end };
      return;
    }
    const seconds = (now - this.clock.now) / 1000;
    if (seconds < 3) return;
    const rate = (this.end - this.clock.end) / seconds;
    if (rate > this.perSecond / 8 && rate < this.perSecond * 8) this.perSecond = rate;
    this.clock = { now, end: this.end };
  }
}
