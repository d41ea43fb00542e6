// Messages on their way into the list: few at once, so that thousands that come together do not hold up the page.

import { nameOf } from "./posts.js";

/** Rows that are added at once where few come, and in a frame where many do. */
const AT_ONCE = 4;
const IN_A_FRAME = 50;
/** A page that nobody sees has no frames. */
const UNSEEN_MS = 250;

export class Coming {
  #calls;
  /** In the order in which they came. */
  #posts = new Map();
  #left = AT_ONCE;
  #frame = 0;
  #timer = 0;

  /** `show` shows these, `rests` says whether the list takes none for now, `many` is told before each frame of them, `told` in each frame after
   * some have come. */
  constructor(calls) {
    this.#calls = calls;
    document.addEventListener("visibilitychange", () => {
      this.#stop();
      this.goOn();
    });
  }

  has(name) {
    return this.#posts.has(name);
  }

  get size() {
    return this.#posts.size;
  }

  add(post) {
    this.#posts.set(nameOf(post), post);
    if (this.#left > 0 && this.#posts.size === 1 && !this.#calls.rests()) {
      this.#left -= 1;
      this.#show(1);
    }
    this.goOn();
  }

  /** What became of one that is not shown yet; false if it is none of these. */
  change(post) {
    const name = nameOf(post);
    const before = this.#posts.get(name);
    if (before) this.#posts.set(name, { ...post, mark: post.mark ?? before.mark, seq: post.seq ?? before.seq });
    return Boolean(before);
  }

  mark(name, mark) {
    const post = this.#posts.get(name);
    if (post) this.#posts.set(name, { ...post, mark });
  }

  clear() {
    this.#posts.clear();
  }

  /** Leaves out those that came first, so that this many are left; their names. */
  skip(most) {
    const gone = this.#first(this.#posts.size - most).map(nameOf);
    gone.forEach((name) => this.#posts.delete(name));
    return gone;
  }

  /** Shows more with the next frame, if there is more. */
  goOn() {
    if (this.#frame || this.#timer || (this.#left === AT_ONCE && !this.#posts.size)) return;
    if (document.visibilityState === "visible") this.#frame = requestAnimationFrame(() => this.#next());
    else this.#timer = setTimeout(() => this.#next(), UNSEEN_MS);
  }

  #stop() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    [this.#frame, this.#timer] = [0, 0];
  }

  #next() {
    this.#stop();
    this.#left = AT_ONCE;
    this.#calls.told();
    if (!this.#posts.size || this.#calls.rests()) return;
    this.#calls.many();
    this.#show(IN_A_FRAME);
    this.goOn();
  }

  #show(most) {
    const posts = this.#first(most);
    posts.forEach((post) => this.#posts.delete(nameOf(post)));
    this.#calls.show(posts);
  }

  #first(count) {
    const posts = [];
    for (const post of this.#posts.values()) {
      if (posts.length >= count) break;
      posts.push(post);
    }
    return posts;
  }
}
