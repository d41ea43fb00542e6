// The socket to the program: comes back by itself, and repeats the orders that were not answered under their names, so that none is lost
// or carried out twice.

const FIRST_DELAY_MS = 300;
const LONGEST_DELAY_MS = 5000;

export class Connection {
  #socket = null;
  #delay = FIRST_DELAY_MS;
  #open = new Map();
  #told;
  #changed;

  /** `told` gets what the program tells; `changed` whether it is there. */
  constructor(told, changed) {
    this.#told = told;
    this.#changed = changed;
    this.#connect();
    addEventListener("online", () => this.#connect());
  }

  /** How many orders have no answer yet. */
  get unanswered() {
    return this.#open.size;
  }

  /** Gives an order that must be carried out once; `done` gets an error, or null. */
  order(order, done) {
    order.nonce = nonce();
    this.#open.set(order.nonce, { order, done });
    this.hint(order);
  }

  /** Gives an order that may be lost. */
  hint(order) {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(order));
    }
  }

  #connect() {
    if (this.#socket && this.#socket.readyState <= WebSocket.OPEN) {
      return;
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    this.#socket = socket;
    socket.addEventListener("message", (event) => this.#take(JSON.parse(event.data)));
    socket.addEventListener("close", () => {
      if (this.#socket !== socket) {
        return;
      }
      this.#changed(false);
      setTimeout(() => this.#connect(), this.#delay * (0.5 + Math.random()));
      this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY_MS);
    });
  }

  #take(told) {
    if (told.type === "done") {
      const open = this.#open.get(told.nonce);
      this.#open.delete(told.nonce);
      open?.done?.(told.error);
      return;
    }
    if (told.type === "hello") {
      this.#delay = FIRST_DELAY_MS;
    }
    this.#told(told);
    if (told.type === "hello") {
      this.#changed(true);
      // In their order; slowly enough for the program's limits.
      [...this.#open.values()].forEach(({ order }, at) => setTimeout(() => {
        if (this.#open.has(order.nonce)) {
          this.hint(order);
        }
      }, at < 20 ? 0 : at * 110));
    }
  }
}

function nonce() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}
