// Runs cases, each a name and a function that throws when something is wrong, one after the other; says a line for each,
// and ends the process with the number of those that failed.
"use strict";

const late = (ms) => new Promise((_, reject) => setTimeout(() => reject(new Error("no answer")), ms).unref());

exports.run = async (cases) => {
  let failures = 0;
  for (const [name, body] of cases) {
    try {
      await Promise.race([body(), late(20000)]);
      console.log(`ok ${name}`);
    } catch (error) {
      failures += 1;
      console.log(`not ok ${name}: ${error.message.replace(/\s+/g, " ")}`);
    }
  }
  process.exit(failures);
};
