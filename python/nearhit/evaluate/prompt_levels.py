"""How much a stronger model is worth on open prompts, where the data has no outcomes: levels from 0 to 1, set by hand.

`SETS` gives levels to the sets of public prompts by their category, `PROMPTS` to prompts written for this table. Both
say what is known of the models of 2023 and 2024: on exact work (code, mathematics, puzzles, many conditions at once)
they lie far apart, on fluent work (advice, essays, play) close together.
"""

from __future__ import annotations

SETS: dict[tuple[str, str | None], float] = {
    ("arena-hard-v0.1", None): 0.75,
    ("arena-hard-v2", "coding"): 0.9,
    ("arena-hard-v2", "math"): 0.95,
    ("arena-hard-v2", "creative_writing"): 0.3,
    ("humaneval", None): 0.8,
    ("user-oriented", None): 0.35,
    ("self-instruct-seed", None): 0.3,
    ("vicuna", "math"): 0.95,
    ("vicuna", "coding"): 0.9,
    ("vicuna", "fermi"): 0.8,
    ("vicuna", "common-sense"): 0.35,
    ("vicuna", "counterfactual"): 0.3,
    ("vicuna", "knowledge"): 0.3,
    ("vicuna", "generic"): 0.2,
    ("vicuna", "roleplay"): 0.2,
    ("vicuna", "writing"): 0.15,
}
"""By set and category; None for all of a set's."""

STATED = "wizardlm-test"
"""The set whose rows state a difficulty from 1 to 10, by which three tenths of their level go."""

STATED_LEVELS = {
    "Math": 0.95,
    "Code Generation": 0.9,
    "Code Debug": 0.9,
    "Reasoning": 0.8,
    "Complex Format": 0.6,
    "Multilingual": 0.5,
    "Physics": 0.5,
    "Chemistry": 0.5,
    "Computer Science": 0.5,
    "Academic Writing": 0.35,
    "Biology": 0.35,
    "Medicine": 0.35,
}
STATED_OTHERWISE = 0.2
"""The rest of their level, by category."""

QUERIES = 0.1
"""Web queries: most ask for a fact or a page."""

PROMPTS: tuple[tuple[float, str], ...] = (
    # Proofs, equations, counting
    (0.95, "Find every pair of positive integers whose product is twelve more than five times their sum."),
    (1.0, "Show that the sum of the first n odd numbers is a perfect square, and use it to sum 37 + 39 + ... + 101."),
    (0.95, "A fair coin is flipped until two heads come in a row. What is the expected number of flips?"),
    (0.9, "Differentiate f(x) = x^2 * exp(-3x) and find where it has its maximum."),
    (0.9, "The vertices of a quadrilateral are (1, 2), (5, 2), (6, 6) and (0, 5). Compute its area."),
    (0.85, "A tank fills in 4 hours through one pipe and in 6 through another. How long do both take together?"),
    (0.9, "How many four-digit numbers have digits that add up to 7?"),
    (0.9, "Solve the inequality 2x - 5 < 3 and x^2 - 4 > 0, and give the solution as intervals."),
    (0.85, "What is the remainder when 7^100 is divided by 13?"),
    (0.8, "A jacket costs 80 after a discount of a fifth. A tax of 10 percent comes on top. What was it before?"),
    # Code
    (0.9, "Write a Python function that merges overlapping intervals and test it on edge cases."),
    (0.95, "Implement a thread-safe LRU cache in C++ with O(1) lookups and explain the locking."),
    (0.9, "Write a SQL query that finds, for each customer, the longest run of days with an order."),
    (0.85, "This loop never ends: while low < high: mid = (low + high) // 2; low = mid. Why, and how do I fix it?"),
    (
        0.95,
        "Given a grid of costs, write an algorithm for the cheapest path that turns at most k times. What is its cost?",
    ),
    (0.85, "Write a JavaScript function that debounces another one and can be cancelled."),
    (0.9, "Implement a parser for arithmetic expressions with parentheses in Rust, without libraries."),
    (0.8, "Write a bash script that renames all photos in a folder by the date they were taken."),
    (0.95, "Design an algorithm that keeps the median of a stream, and prove its running time."),
    (0.75, "Create a web page with HTML and CSS that shows three cards side by side and stacks them on phones."),
    # Reasoning
    (0.9, "Five people sit in a row. Ann is left of Ben, Cy is not at an end, Di sits next to Eve. List the orders."),
    (0.85, "If all bloops are razzies and some razzies are lazzies, must some bloops be lazzies? Explain your logic."),
    (0.85, "A ferryman has a boat for two and must take three guards and three thieves over, never outnumbered. How?"),
    (0.8, "I walk a kilometre south, one east and one north and am where I began. Where can I be?"),
    (0.8, "Mia's aunt is the only sister of my mother's husband. How am I related to Mia?"),
    (0.75, "Which word does not belong with the others, and why: carrot, potato, tomato, radish?"),
    (0.8, "There are two doors and two keepers, one of whom lies. Which single question finds the way out?"),
    (0.8, "Yesterday's tomorrow is Sunday. What day is the day after tomorrow?"),
    (0.75, "A clock strikes six in five seconds. How long does it take to strike twelve?"),
    (0.85, "Estimate how many piano tuners work in a city of three million, and state what you assume."),
    # Extraction and exact formats
    (0.7, "From the minutes below, return each decision with its owner and date as a JSON array, in order of date."),
    (0.65, "Read the paragraph and list every company with its revenue as CSV; leave out those that made a loss."),
    (0.7, "For each review, give the sentiment from 1 to 5 and the features it names, as JSON without other text."),
    (0.6, "Extract all chemical names from the abstract, sort them and count how often each occurs."),
    (0.65, "Turn the following log lines into a table with the columns time, level, module and message."),
    (0.6, "Given these records, answer with one number: how many customers bought twice but never complained?"),
    (0.6, "Find the names, places and dates in the text and present them in a dictionary by type."),
    (0.55, "Highlight the three claims in this article for which no source is given."),
    # Science
    (0.4, "Explain what a catalyst does to the energy of a reaction, with an example from industry."),
    (0.4, "How do vaccines train the immune system, and why do some need a second dose?"),
    (0.45, "What is the difference between nuclear fission and fusion, and which powers the stars?"),
    (0.5, "A ball is thrown upwards at 20 metres a second. How high does it rise, ignoring the air?"),
    (0.4, "Describe how a transistor works as a switch, and what limits how small it can be."),
    (0.35, "Why does ice float, and what would change in lakes if it did not?"),
    (0.45, "How do engineers choose between a truss and an arch for a bridge?"),
    (0.4, "Describe the greenhouse effect and the part that clouds play in it."),
    # Humanities
    (0.2, "What led to the fall of the Western Roman Empire? Give the main explanations of historians."),
    (0.2, "Compare the ideas of freedom in Rousseau and Mill."),
    (0.15, "How did the printing press change religion and politics in Europe?"),
    (0.2, "Discuss how inflation affects savers, borrowers and the state."),
    (0.15, "What are the arguments for and against a tax on carbon?"),
    (0.2, "Explain how trade unions came about and what they achieved."),
    (0.15, "Summarise the themes of a novel about exile that you know well."),
    (0.2, "Suggest how a teacher could explain federalism to children of twelve."),
    # Writing
    (0.15, "Write a letter to a neighbour about noise at night, friendly but clear."),
    (0.15, "Draft a short speech for the opening of a village library."),
    (0.1, "Write a product description for a wooden desk lamp."),
    (0.15, "Compose a haiku about the first snow of the year."),
    (0.2, "Describe an old harbour at dawn so that the reader can smell it."),
    (0.15, "Write the opening paragraph of a ghost story set in a lighthouse."),
    (0.1, "Write a post for a company's page to welcome a new colleague."),
    (0.25, "Improve the style of the following paragraph without changing what it says."),
    (0.15, "Give me an outline for an essay on the pleasures of walking."),
    # Play and talk
    (0.2, "Pretend you are a grumpy dragon who runs a bakery, and answer customers in that voice."),
    (0.2, "You are a detective of the 1920s. Describe your office and your last case."),
    (0.15, "Act as my fitness coach and cheer me up after a bad week."),
    (0.2, "Play an alien diplomat who visits a supermarket for the first time."),
    (0.2, "As the captain of a spaceship, tell the crew that the engine has failed."),
    (0.1, "Hello, how are you today?"),
    (0.05, "Thanks, that helped a lot!"),
    (0.1, "Tell me a joke about cats."),
    # Facts and advice
    (0.1, "What is the capital of Australia?"),
    (0.1, "Who wrote Don Quixote?"),
    (0.15, "What does the word serendipity mean?"),
    (0.15, "How do I get a red wine stain out of a cotton shirt?"),
    (0.2, "What should I pack for a week of hiking in autumn?"),
    (0.2, "How can I sleep better when I work late shifts?"),
    (0.15, "Translate good morning into French, Spanish and Italian."),
    (0.15, "Summarise the following text in two sentences."),
    # Short and hard, short and easy
    (0.85, "Prove that no largest prime exists."),
    (0.85, "Prove that the harmonic series diverges."),
    (0.9, "Derive the formula for the sum of a geometric series and prove it by induction."),
    (0.85, "Prove or refute: every continuous function on the reals is uniformly continuous."),
    (0.8, "Argue step by step why quicksort takes quadratic time at worst."),
    (0.05, "What is 3 + 5?"),
    (0.05, "What is 9 * 7?"),
    (0.1, "How much is 20 % of 50?"),
    (0.1, "Convert 5 feet to centimetres."),
    (0.1, "How many minutes are 3 hours?"),
    (0.25, "Solve x + 4 = 9."),
    (0.05, "Name a river in Europe."),
)
"""Level and prompt."""
