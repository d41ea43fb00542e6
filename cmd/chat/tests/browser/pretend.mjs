// A pretended program behind a page: says what a real one says rarely, or after a long time.

const DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** Orders that a real one takes at once, and a second. */
const [BURST, PER_SECOND] = [40, 10];

/** The id of a message of this time. */
export function idAt(time_ms, number) {
  let [left, stamp] = [time_ms, ""];
  for (let at = 0; at < 10; at += 1) {
    stamp = DIGITS[left % 32] + stamp;
    left = Math.floor(left / 32);
  }
  return `${stamp}${String(number).padStart(16, "0")}`;
}

export class Program {
  /** All that has arrived, in this order. */
  posts = [];
  read = { all: {}, direct: {} };
  /** What the page has asked for, and on how many sockets. */
  asked = [];
  greeted = 0;
  answers = true;
  /** It was asked for more than a real one takes. */
  flooded = false;
  #socket = null;
  #left = BURST;
  #at = 0;

  /** For `before`. */
  lay = (page) => page.routeWebSocket(/\/socket$/, (socket) => {
    this.#socket = socket;
    this.greeted += 1;
    this.#left = BURST;
    socket.onMessage((text) => this.#take(JSON.parse(text)));
    this.hello();
  });

  /** Something arrives; its id can be of any time. */
  arrives(sender, text, { time_ms = Date.now(), mark, to = null } = {}) {
    const seq = this.posts.length * 3 + 5;
    const post = { id: idAt(time_ms, seq), sender, seq, time_ms, to, content: { text }, edited: false, reactions: {}, mark };
    this.posts.push(post);
    return post;
  }

  drop() {
    this.#socket.close();
  }

  tell(news) {
    this.#socket.send(JSON.stringify(news));
  }

  hello() {
    const posts = this.posts.slice(-100);
    this.tell({ type: "hello", me: "alice", channel: "harbour", mode: "readwrite", posts: sorted(posts), online: [], connected: true, reason: "", away_ms: 0, waiting: 0, typing: [], read: this.read, more: posts.length < this.posts.length });
  }

  #take(order) {
    this.asked.push(order);
    const now = performance.now();
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) / 1000) * PER_SECOND) - 1;
    this.#at = now;
    this.flooded ||= this.#left < 0;
    if (order.do === "before") {
      const older = this.posts.filter(({ seq }) => seq < order.seq);
      this.tell({ type: "page", before: order.seq, posts: sorted(older.slice(-100)), more: older.length > 100 });
    }
    if (order.nonce && this.answers) this.tell({ type: "done", nonce: order.nonce, error: null });
  }
}

function sorted(posts) {
  return [...posts].sort((a, b) => (a.id < b.id ? -1 : 1));
}
